"""
The ablation: the main recipe on cells restored otherwise, by the rules of stages 4 and 5; what is compared, and how robust it is.

IN   the tables of all stages
OUT  results/4_restore/{restoration}/, 5_classify/{restoration}/{recipe}/, with the names of stages 4 and 5;
     results/8_report/ablation.parquet, ablation.csv, ablation.html, robustness.parquet, robustness.html
"""

OTHERWISE = [
    name
    for name in CONFIG.report.compare_recipes.restorations
    if name != CONFIG.restore.restore_cells.method
]


use rule restore_cells as restore_otherwise with:
    input:
        crops="results/2_crop/crops.parquet",
        crop_shards="results/2_crop/shards",
        noise="results/3_partition/noise.parquet",
        generator=generator_otherwise,
    output:
        cells="results/4_restore/{restoration}/cells.parquet",
        refused="results/4_restore/{restoration}/refused.parquet",
        shards=directory("results/4_restore/{restoration}/shards"),
    log:
        "results/4_restore/logs/{restoration}/restore_cells.log",
    benchmark:
        "results/4_restore/benchmarks/{restoration}/restore_cells.tsv"
    params:
        code=code_of("buffycoat.restore.restore_cells"),
        settings=restored_otherwise,


use rule train_fold as train_fold_otherwise with:
    input:
        images="results/1_index/images.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        cells="results/4_restore/{restoration}/cells.parquet",
        crop_shards="results/2_crop/shards",
        cell_shards="results/4_restore/{restoration}/shards",
        body=body_of,
    output:
        model="results/5_classify/{restoration}/{recipe}/fold_{fold}/model.safetensors",
        history="results/5_classify/{restoration}/{recipe}/fold_{fold}/history.parquet",
    log:
        "results/5_classify/logs/{restoration}/{recipe}/train_fold_{fold}.log",
    benchmark:
        "results/5_classify/benchmarks/{restoration}/{recipe}/train_fold_{fold}.tsv"


use rule predict_fold as predict_fold_otherwise with:
    input:
        images="results/1_index/images.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        cells="results/4_restore/{restoration}/cells.parquet",
        crop_shards="results/2_crop/shards",
        cell_shards="results/4_restore/{restoration}/shards",
        model="results/5_classify/{restoration}/{recipe}/fold_{fold}/model.safetensors",
    output:
        logits="results/5_classify/{restoration}/{recipe}/fold_{fold}/logits.parquet",
    log:
        "results/5_classify/logs/{restoration}/{recipe}/predict_fold_{fold}.log",
    benchmark:
        "results/5_classify/benchmarks/{restoration}/{recipe}/predict_fold_{fold}.tsv"


use rule combine_folds as combine_folds_otherwise with:
    input:
        images="results/1_index/images.parquet",
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


rule compare_recipes:
    """Compare recipes, restorations and what is done after branch A, with paired intervals."""
    input:
        images="results/1_index/images.parquet",
        test_labels="results/1_index/test_labels.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        probabilities=expand(
            "results/5_classify/{recipe}/probabilities.parquet", recipe=COMPARED
        ),
        logits=expand(
            f"results/5_classify/{MAIN_RECIPE}/fold_{{fold}}/logits.parquet",
            fold=FOLDS,
        ),
        calibration=f"results/5_classify/{MAIN_RECIPE}/calibration.json",
        alternatives="results/7_refine/alternatives.parquet",
        restored=expand(
            "results/5_classify/{restoration}/{recipe}/probabilities.parquet",
            restoration=OTHERWISE,
            recipe=MAIN_RECIPE,
        ),
    output:
        ablation="results/8_report/ablation.parquet",
        csv=shown("results/8_report/ablation.csv", "Ablation"),
        page=shown("results/8_report/ablation.html", "Ablation"),
    log:
        "results/8_report/logs/compare_recipes.log",
    benchmark:
        "results/8_report/benchmarks/compare_recipes.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.report.compare_recipes"),
        settings=settings_of("report.compare_recipes"),
        recipes=COMPARED,
        restorations=OTHERWISE,
        seed=SEED,
    shell:
        "python -m buffycoat.report.compare_recipes"
        " --images {input.images:q} --test-labels {input.test_labels:q} --classes {input.classes:q}"
        " --folds {input.folds:q} --recipes {params.recipes:q} --probabilities {input.probabilities:q}"
        " --logits {input.logits:q} --calibration {input.calibration:q} --alternatives {input.alternatives:q}"
        " --restorations {params.restorations:q} --restored {input.restored:q}"
        " --ablation {output.ablation:q} --csv {output.csv:q} --page {output.page:q} --seed {params.seed}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"


rule score_robustness:
    """Score branch A against the severity of each degradation."""
    input:
        images="results/1_index/images.parquet",
        classes="results/1_index/classes.parquet",
        degraded=expand(
            f"results/5_classify/{MAIN_RECIPE}/fold_{{fold}}/degraded.parquet",
            fold=FOLDS,
        ),
    output:
        robustness="results/8_report/robustness.parquet",
        page=shown("results/8_report/robustness.html", "Ablation"),
    log:
        "results/8_report/logs/score_robustness.log",
    benchmark:
        "results/8_report/benchmarks/score_robustness.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.report.score_robustness"),
        settings=settings_of("report.score_robustness"),
        seed=SEED,
    shell:
        "python -m buffycoat.report.score_robustness"
        " --images {input.images:q} --classes {input.classes:q} --degraded {input.degraded:q}"
        " --robustness {output.robustness:q} --page {output.page:q} --seed {params.seed}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"
