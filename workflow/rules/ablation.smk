"""
The ablation: recipes, restorations and what is done after branch A, compared, and how robust branch A is.

IN   the tables of all stages
OUT  results/report/ablation.parquet, ablation.csv, ablation.html, robustness.parquet, robustness.html
"""


rule compare_recipes:
    """Compare recipes, restorations and what is done after branch A, with paired intervals."""
    input:
        images="results/1_index/images.parquet",
        labels="results/1_index/labels.parquet",
        test_labels="results/1_index/test_labels.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        probabilities=expand(
            "results/5_classify/{restoration}/{recipe}/probabilities.parquet",
            restoration=RESTORATION,
            recipe=COMPARED,
        ),
        logits=expand(
            f"{CLASSIFIED}/fold_{{fold}}/logits.parquet",
            fold=FOLDS,
        ),
        calibration=f"{CLASSIFIED}/calibration.json",
        alternatives="results/8_refine/alternatives.parquet",
        restored=expand(
            "results/5_classify/{restoration}/{recipe}/probabilities.parquet",
            restoration=OTHERWISE,
            recipe=MAIN_RECIPE,
        ),
    output:
        ablation="results/report/ablation.parquet",
        csv=shown("results/report/ablation.csv", "Ablation"),
        page=shown("results/report/ablation.html", "Ablation"),
    log:
        "results/report/logs/compare_recipes.log",
    benchmark:
        "results/report/benchmarks/compare_recipes.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.report.compare_recipes"),
        settings=settings_of("report.compare_recipes"),
        statistics=settings_of("statistics"),
        recipe=MAIN_RECIPE,
        restoration=RESTORATION,
        seed=SEED,
        data=data_of,
    shell:
        "python -m buffycoat.report.compare_recipes"
        " --images {input.images:q} --labels {input.labels:q} --test-labels {input.test_labels:q} --classes {input.classes:q}"
        " --folds {input.folds:q} --recipe {params.recipe:q} --probabilities {input.probabilities:q}"
        " --logits {input.logits:q} --calibration {input.calibration:q} --alternatives {input.alternatives:q}"
        " --restoration {params.restoration:q} --restored {input.restored:q}"
        " --ablation {output.ablation:q} --csv {output.csv:q} --page {output.page:q} --seed {params.seed}"
        " --data {params.data:q} --statistics {params.statistics:q} --settings {params.settings:q} 2>&1 | tee {log:q}"


rule score_robustness:
    """Score branch A against the severity of each degradation."""
    input:
        labels="results/1_index/labels.parquet",
        classes="results/1_index/classes.parquet",
        degraded=expand(
            f"{CLASSIFIED}/fold_{{fold}}/degraded.parquet",
            fold=FOLDS,
        ),
    output:
        robustness="results/report/robustness.parquet",
        page=shown("results/report/robustness.html", "Ablation"),
    log:
        "results/report/logs/score_robustness.log",
    benchmark:
        "results/report/benchmarks/score_robustness.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.report.score_robustness"),
        statistics=settings_of("statistics"),
        seed=SEED,
        data=data_of,
    shell:
        "python -m buffycoat.report.score_robustness"
        " --labels {input.labels:q} --classes {input.classes:q} --degraded {input.degraded:q}"
        " --robustness {output.robustness:q} --page {output.page:q} --seed {params.seed}"
        " --data {params.data:q} --statistics {params.statistics:q} 2>&1 | tee {log:q}"
