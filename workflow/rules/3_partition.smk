"""
Partition: which crops are noisy, blurred or badly lit.

IN   results/1_index/images.parquet, results/2_crop/
OUT  results/3_partition/portions/{scatteritem}/, noise_scores.parquet (gathered), noise.parquet, threshold.json
"""


rule measure_noise:
    """Measure noise, blur and light of each crop."""
    input:
        images="results/1_index/images.parquet",
        crops="results/2_crop/crops.parquet",
        shards="results/2_crop/portions/{scatteritem}/shards",
    output:
        scores="results/3_partition/portions/{scatteritem}/noise_scores.parquet",
    log:
        "results/3_partition/logs/measure_noise_{scatteritem}.log",
    benchmark:
        "results/3_partition/benchmarks/measure_noise_{scatteritem}.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 16
    params:
        code=code_of("buffycoat.partition.measure_noise"),
    shell:
        "python -m buffycoat.partition.measure_noise"
        " --images {input.images:q} --crops {input.crops:q}"
        " --scores {output.scores:q} --portion {wildcards.scatteritem:q}"
        " --threads {threads} 2>&1 | tee {log:q}"


rule flag_noisy:
    """Fit the thresholds on training rows and flag the crops."""
    input:
        images="results/1_index/images.parquet",
        scores="results/3_partition/noise_scores.parquet",
    output:
        noise="results/3_partition/noise.parquet",
        threshold="results/3_partition/threshold.json",
    log:
        "results/3_partition/logs/flag_noisy.log",
    benchmark:
        "results/3_partition/benchmarks/flag_noisy.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.partition.flag_noisy"),
        settings=settings_of("partition.flag_noisy"),
    shell:
        "python -m buffycoat.partition.flag_noisy"
        " --images {input.images:q} --scores {input.scores:q}"
        " --noise {output.noise:q} --threshold {output.threshold:q}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"
