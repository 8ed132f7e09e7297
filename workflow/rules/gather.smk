"""
Gather: the tables of the portions that jobs work on side by side, put together again.

IN   results/{stage}/portions/{scatteritem}/{table}.parquet
OUT  results/{stage}/{table}.parquet
"""


rule gather_portions:
    """Put the portions of a table together, in order; the shards that their rows name stay where they are."""
    input:
        portions=portions_of,
    output:
        table="results/{gathered}.parquet",
    log:
        "results/logs/{gathered}.log",
    benchmark:
        "results/benchmarks/{gathered}.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.data.gather_portions"),
    shell:
        "python -m buffycoat.data.gather_portions"
        " --portions {input.portions:q} --table {output.table:q} 2>&1 | tee {log:q}"
