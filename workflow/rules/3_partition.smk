"""
Partition: which crops are noisy, blurred or badly lit.

IN   results/1_index/images.parquet, results/2_crop/
OUT  results/3_partition/noise_scores.parquet, noise.parquet, threshold.json; portions/ while they are gathered
"""


rule measure_noise:
    """Measure noise, blur and light of each crop; or gather what the portions' jobs measured."""
    input:
        images="results/1_index/images.parquet",
        crops="results/2_crop/crops.parquet",
        shards="results/2_crop/shards",
        portions=portions_of(
            "results/3_partition/portions/{portion}/noise_scores.parquet"
        ),
    output:
        scores="results/3_partition/noise_scores.parquet",
    log:
        "results/3_partition/logs/measure_noise.log",
    benchmark:
        "results/3_partition/benchmarks/measure_noise.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 16
    params:
        code=code_of("buffycoat.partition.measure_noise"),
        settings=settings_of("partition.measure_noise"),
        portion="1/1",
    shell:
        "python -m buffycoat.partition.measure_noise"
        " --images {input.images:q} --crops {input.crops:q} --portions {input.portions:q}"
        " --scores {output.scores:q} --portion {params.portion:q}"
        " --threads {threads} --settings {params.settings:q} 2>&1 | tee {log:q}"


use rule measure_noise as measure_noise_portion with:
    input:
        images="results/1_index/images.parquet",
        crops="results/2_crop/crops.parquet",
        shards="results/2_crop/shards",
        portions=[],
    output:
        scores=temp("results/3_partition/portions/{portion}/noise_scores.parquet"),
    log:
        "results/3_partition/logs/portions/measure_noise_{portion}.log",
    benchmark:
        "results/3_partition/benchmarks/portions/measure_noise_{portion}.tsv"
    params:
        code=code_of("buffycoat.partition.measure_noise"),
        settings=settings_of("partition.measure_noise"),
        portion=PORTION,


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
