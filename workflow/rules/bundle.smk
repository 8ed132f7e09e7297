"""
Bundle: everything that was learned, in one folder that others can use (`buffycoat predict`).

IN   the tables and models of all stages
OUT  results/bundle/bundle/: bundle.json, MODEL_CARD.md, classes, thresholds, rules and models
"""


rule pack_bundle:
    """Copy what was learned into one folder, with its manifest and model card."""
    input:
        images="results/1_index/images.parquet",
        labels="results/1_index/labels.parquet",
        classes="results/1_index/classes.parquet",
        segmenter=SEGMENTER,
        threshold="results/3_partition/threshold.json",
        generator=GENERATOR,
        models=expand(
            f"{CLASSIFIED}/fold_{{fold}}/model.safetensors",
            fold=FOLDS,
        ),
        calibration=f"{CLASSIFIED}/calibration.json",
        heads="results/6_embed/heads.safetensors",
        rules="results/8_refine/rules.json",
        familiar="results/9_review/familiar.safetensors",
        crops="results/2_crop/crops.parquet",
        noise="results/3_partition/noise.parquet",
        morphology="results/7_measure/morphology.parquet",
        suspects="results/9_review/suspects.parquet",
        summary="results/report/summary.json",
        metrics="results/report/metrics.parquet",
    output:
        bundle=directory("results/bundle/bundle"),
    log:
        "results/bundle/logs/pack_bundle.log",
    benchmark:
        "results/bundle/benchmarks/pack_bundle.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.bundle.pack_bundle"),
        settings=settings_of("bundle.pack_bundle"),
        folds=FOLDS,
        recipe=MAIN_RECIPE,
        seed=SEED,
        config=CONFIG_JSON,
    shell:
        "python -m buffycoat.bundle.pack_bundle"
        " --images {input.images:q} --labels {input.labels:q} --classes {input.classes:q} --segmenter {input.segmenter:q}"
        " --threshold {input.threshold:q} --generator {input.generator:q} --models {input.models:q}"
        " --folds {params.folds:q} --calibration {input.calibration:q} --heads {input.heads:q}"
        " --rules {input.rules:q} --familiar {input.familiar:q} --crops {input.crops:q} --noise {input.noise:q}"
        " --morphology {input.morphology:q} --suspects {input.suspects:q} --summary {input.summary:q}"
        " --metrics {input.metrics:q} --recipe {params.recipe:q} --bundle {output.bundle:q} --seed {params.seed}"
        " --config {params.config:q} --settings {params.settings:q} 2>&1 | tee {log:q}"
