"""
Restore: noisy crops made usable, where that helps.

IN   results/1_index/images.parquet and labels.parquet, results/2_crop/, results/3_partition/noise.parquet
OUT  results/4_restore/pairs.parquet, generator.safetensors, gan_history.parquet, gan_samples.png;
     {restoration}/cells.parquet, refused.parquet, shards/ for each restoration that is asked for
"""


rule train_gan:
    """Train Pix2Pix on pairs made of the clean training crops; continues an interrupted run."""
    input:
        images="results/1_index/images.parquet",
        # A corrected class does not change which crops are clean, and the patients only divide what the generator learns
        # from what it is judged on: labels that alone are corrected do not train it again.
        labels=ancient("results/1_index/labels.parquet"),
        noise="results/3_partition/noise.parquet",
        crops="results/2_crop/crops.parquet",
        shards=CROP_SHARDS,
    output:
        pairs="results/4_restore/pairs.parquet",
        generator="results/4_restore/generator.safetensors",
        history="results/4_restore/gan_history.parquet",
        samples=shown("results/4_restore/gan_samples.png", "Figures"),
    log:
        "results/4_restore/logs/train_gan.log",
    benchmark:
        "results/4_restore/benchmarks/train_gan.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
    params:
        code=code_of("buffycoat.restore.train_gan"),
        settings=settings_of("restore.train_gan"),
        seed=SEED,
    shell:
        "python -m buffycoat.restore.train_gan"
        " --images {input.images:q} --labels {input.labels:q} --noise {input.noise:q} --crops {input.crops:q}"
        " --pairs {output.pairs:q} --generator {output.generator:q} --history {output.history:q}"
        " --samples {output.samples:q} --seed {params.seed} --settings {params.settings:q}"
        " 2>&1 | tee {log:q}"


rule restore_cells:
    """Restore the noisy crops that gain by it."""
    input:
        crops="results/2_crop/crops.parquet",
        crop_shards=CROP_SHARDS,
        noise="results/3_partition/noise.parquet",
        generator=generator_of,
    output:
        cells="results/4_restore/{restoration}/cells.parquet",
        refused="results/4_restore/{restoration}/refused.parquet",
        shards=directory("results/4_restore/{restoration}/shards"),
    log:
        "results/4_restore/logs/{restoration}/restore_cells.log",
    benchmark:
        "results/4_restore/benchmarks/{restoration}/restore_cells.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
    params:
        code=code_of("buffycoat.restore.restore_cells"),
        settings=restore_settings,
    shell:
        "python -m buffycoat.restore.restore_cells"
        " --crops {input.crops:q} --noise {input.noise:q} --generator {input.generator:q}"
        " --cells {output.cells:q} --refused {output.refused:q} --shards {output.shards:q}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"
