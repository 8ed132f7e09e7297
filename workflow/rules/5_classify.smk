"""
Classify (branch A): five folds of an image classifier, predicted in eight views.

IN   results/1_index/, 4_restore/{restoration}/ and the shards that its cells name, 3_partition/noise.parquet
OUT  results/5_classify/{restoration}/{recipe}/fold_{fold}/model.safetensors, history.parquet, logits.parquet;
     {restoration}/{recipe}/probabilities.parquet, calibration.json; fold_{fold}/degraded.parquet for the ablation alone
"""


rule train_fold:
    """Train one fold; continues an interrupted run."""
    input:
        images="results/1_index/images.parquet",
        labels="results/1_index/labels.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        cells="results/4_restore/{restoration}/cells.parquet",
        crop_shards=CROP_SHARDS,
        cell_shards="results/4_restore/{restoration}/shards",
        body=body_of,
    output:
        model="results/5_classify/{restoration}/{recipe}/fold_{fold}/model.safetensors",
        history="results/5_classify/{restoration}/{recipe}/fold_{fold}/history.parquet",
    log:
        "results/5_classify/logs/{restoration}/{recipe}/train_fold_{fold}.log",
    benchmark:
        "results/5_classify/benchmarks/{restoration}/{recipe}/train_fold_{fold}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
    params:
        code=code_of("buffycoat.classify.train_fold"),
        settings=settings_of("classify.train_fold"),
        seed=SEED,
    shell:
        "python -m buffycoat.classify.train_fold"
        " --images {input.images:q} --labels {input.labels:q} --classes {input.classes:q} --folds {input.folds:q} --cells {input.cells:q}"
        " --fold {wildcards.fold:q} --recipe {wildcards.recipe:q} --body {input.body:q}"
        " --model {output.model:q} --history {output.history:q}"
        " --seed {params.seed} --settings {params.settings:q} 2>&1 | tee {log:q}"


rule predict_fold:
    """Predict, in eight views, the images that the fold's model may judge."""
    input:
        images="results/1_index/images.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        cells="results/4_restore/{restoration}/cells.parquet",
        crop_shards=CROP_SHARDS,
        cell_shards="results/4_restore/{restoration}/shards",
        model="results/5_classify/{restoration}/{recipe}/fold_{fold}/model.safetensors",
    output:
        logits="results/5_classify/{restoration}/{recipe}/fold_{fold}/logits.parquet",
    log:
        "results/5_classify/logs/{restoration}/{recipe}/predict_fold_{fold}.log",
    benchmark:
        "results/5_classify/benchmarks/{restoration}/{recipe}/predict_fold_{fold}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
    params:
        code=code_of("buffycoat.classify.predict_fold"),
        settings=settings_of("classify.predict_fold"),
    shell:
        "python -m buffycoat.classify.predict_fold"
        " --images {input.images:q} --classes {input.classes:q} --folds {input.folds:q} --cells {input.cells:q}"
        " --model {input.model:q} --fold {wildcards.fold:q} --recipe {wildcards.recipe:q}"
        " --logits {output.logits:q}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"


rule combine_folds:
    """Average over views and folds: one row of probabilities per image."""
    input:
        images="results/1_index/images.parquet",
        labels="results/1_index/labels.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        logits=expand(
            "results/5_classify/{{restoration}}/{{recipe}}/fold_{fold}/logits.parquet",
            fold=FOLDS,
        ),
    output:
        probabilities="results/5_classify/{restoration}/{recipe}/probabilities.parquet",
        calibration="results/5_classify/{restoration}/{recipe}/calibration.json",
    log:
        "results/5_classify/logs/{restoration}/{recipe}/combine_folds.log",
    benchmark:
        "results/5_classify/benchmarks/{restoration}/{recipe}/combine_folds.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.classify.combine_folds"),
        settings=settings_of("classify.combine_folds"),
    shell:
        "python -m buffycoat.classify.combine_folds"
        " --images {input.images:q} --labels {input.labels:q} --classes {input.classes:q} --folds {input.folds:q}"
        " --logits {input.logits:q} --probabilities {output.probabilities:q}"
        " --calibration {output.calibration:q}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"


rule predict_degraded:
    """Predict held-out cells that were degraded on purpose."""
    input:
        images="results/1_index/images.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        noise="results/3_partition/noise.parquet",
        cells="results/4_restore/{restoration}/cells.parquet",
        crop_shards=CROP_SHARDS,
        cell_shards="results/4_restore/{restoration}/shards",
        model="results/5_classify/{restoration}/{recipe}/fold_{fold}/model.safetensors",
    output:
        degraded="results/5_classify/{restoration}/{recipe}/fold_{fold}/degraded.parquet",
    log:
        "results/5_classify/logs/{restoration}/{recipe}/predict_degraded_{fold}.log",
    benchmark:
        "results/5_classify/benchmarks/{restoration}/{recipe}/predict_degraded_{fold}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
    params:
        code=code_of("buffycoat.classify.predict_degraded"),
        settings=settings_of("classify.predict_degraded"),
        seed=SEED,
    shell:
        "python -m buffycoat.classify.predict_degraded"
        " --images {input.images:q} --classes {input.classes:q} --folds {input.folds:q} --noise {input.noise:q}"
        " --cells {input.cells:q} --model {input.model:q} --fold {wildcards.fold:q}"
        " --degraded {output.degraded:q} --seed {params.seed}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"
