"""
Report: scores with intervals, one prediction per image, the submission, a page for a person, and the ablation.

IN   the tables of all stages
OUT  results/report/metrics.parquet, confusion.parquet, summary.json, predictions.parquet, submission.csv, figures/,
     report.html, provenance.json; ablation.parquet, ablation.csv, ablation.html, robustness.parquet, robustness.html
"""


rule score_labels:
    """Score every phase, out of fold and on test images with known labels, with intervals."""
    input:
        images="results/1_index/images.parquet",
        labels="results/1_index/labels.parquet",
        test_labels="results/1_index/test_labels.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        probabilities=f"{CLASSIFIED}/probabilities.parquet",
        head_probabilities="results/6_embed/probabilities.parquet",
        refined_labels="results/8_refine/refined_labels.parquet",
    output:
        metrics="results/report/metrics.parquet",
        confusions="results/report/confusion.parquet",
        summary="results/report/summary.json",
    log:
        "results/report/logs/score_labels.log",
    benchmark:
        "results/report/benchmarks/score_labels.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.report.score_labels"),
        statistics=settings_of("statistics"),
        seed=SEED,
    shell:
        "python -m buffycoat.report.score_labels"
        " --images {input.images:q} --labels {input.labels:q} --test-labels {input.test_labels:q} --classes {input.classes:q}"
        " --folds {input.folds:q} --probabilities {input.probabilities:q}"
        " --head-probabilities {input.head_probabilities:q} --refined-labels {input.refined_labels:q}"
        " --metrics {output.metrics:q} --confusions {output.confusions:q} --summary {output.summary:q}"
        " --seed {params.seed} --statistics {params.statistics:q} 2>&1 | tee {log:q}"


rule write_predictions:
    """Write one row per image of the data set, and the submission."""
    input:
        images="results/1_index/images.parquet",
        labels="results/1_index/labels.parquet",
        classes="results/1_index/classes.parquet",
        crops="results/2_crop/crops.parquet",
        noise="results/3_partition/noise.parquet",
        cells=CELLS,
        probabilities=f"{CLASSIFIED}/probabilities.parquet",
        refined_labels="results/8_refine/refined_labels.parquet",
    output:
        predictions="results/report/predictions.parquet",
        submission=shown("results/report/submission.csv", "Tables"),
    log:
        "results/report/logs/write_predictions.log",
    benchmark:
        "results/report/benchmarks/write_predictions.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.report.write_predictions"),
    shell:
        "python -m buffycoat.report.write_predictions"
        " --images {input.images:q} --labels {input.labels:q} --classes {input.classes:q} --crops {input.crops:q} --noise {input.noise:q}"
        " --cells {input.cells:q} --probabilities {input.probabilities:q} --refined-labels {input.refined_labels:q}"
        " --predictions {output.predictions:q} --submission {output.submission:q} 2>&1 | tee {log:q}"


rule draw_figures:
    """Draw the report's figures."""
    input:
        images="results/1_index/images.parquet",
        labels="results/1_index/labels.parquet",
        classes="results/1_index/classes.parquet",
        test_labels="results/1_index/test_labels.parquet",
        threshold="results/3_partition/threshold.json",
        gan_history=GAN_HISTORY,
        histories=expand(
            f"{CLASSIFIED}/fold_{{fold}}/history.parquet",
            fold=FOLDS,
        ),
        confusions="results/report/confusion.parquet",
        summary="results/report/summary.json",
        calibration=f"{CLASSIFIED}/calibration.json",
    output:
        figures=shown(directory("results/report/figures"), "Figures", "{file}.png"),
    log:
        "results/report/logs/draw_figures.log",
    benchmark:
        "results/report/benchmarks/draw_figures.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.report.draw_figures"),
    shell:
        "python -m buffycoat.report.draw_figures"
        " --images {input.images:q} --labels {input.labels:q} --classes {input.classes:q} --test-labels {input.test_labels:q}"
        " --threshold {input.threshold:q} --gan-history {input.gan_history:q} --histories {input.histories:q}"
        " --confusions {input.confusions:q} --summary {input.summary:q} --calibration {input.calibration:q}"
        " --figures {output.figures:q} 2>&1 | tee {log:q}"


rule write_report:
    """Write the page that shows everything; opens without a network."""
    input:
        images="results/1_index/images.parquet",
        labels="results/1_index/labels.parquet",
        test_labels="results/1_index/test_labels.parquet",
        classes="results/1_index/classes.parquet",
        index_summary="results/1_index/summary.json",
        receipt="results/1_index/folds_report.json",
        crops="results/2_crop/crops.parquet",
        crop_shards=CROP_SHARDS,
        gan_samples=GAN_SAMPLES,
        cells=CELLS,
        refused=f"{RESTORED}/refused.parquet",
        cell_shards=CELL_SHARDS,
        probabilities=f"{CLASSIFIED}/probabilities.parquet",
        head_probabilities="results/6_embed/probabilities.parquet",
        refined_labels="results/8_refine/refined_labels.parquet",
        rules="results/8_refine/rules.json",
        metrics="results/report/metrics.parquet",
        summary="results/report/summary.json",
        predictions="results/report/predictions.parquet",
        calibration=f"{CLASSIFIED}/calibration.json",
        figures="results/report/figures",
    output:
        report=shown("results/report/report.html", "Pages"),
    log:
        "results/report/logs/write_report.log",
    benchmark:
        "results/report/benchmarks/write_report.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.report.write_report"),
        config=CONFIG_JSON,
    shell:
        "python -m buffycoat.report.write_report"
        " --images {input.images:q} --labels {input.labels:q} --test-labels {input.test_labels:q} --classes {input.classes:q}"
        " --index-summary {input.index_summary:q} --receipt {input.receipt:q} --crops {input.crops:q}"
        " --gan-samples {input.gan_samples:q} --cells {input.cells:q} --refused {input.refused:q}"
        " --probabilities {input.probabilities:q} --head-probabilities {input.head_probabilities:q}"
        " --refined-labels {input.refined_labels:q} --rules {input.rules:q} --metrics {input.metrics:q} --summary {input.summary:q}"
        " --predictions {input.predictions:q} --calibration {input.calibration:q} --figures {input.figures:q}"
        " --config {params.config:q} --report {output.report:q} 2>&1 | tee {log:q}"


rule write_provenance:
    """Write what the results were made with and from."""
    input:
        images="results/1_index/images.parquet",
        sources=LISTS + CONFIG.index.make_labels.answers(),
        results=[
            "results/2_crop/crops.parquet",
            CELLS,
            f"{CLASSIFIED}/probabilities.parquet",
            "results/6_embed/probabilities.parquet",
            "results/8_refine/refined_labels.parquet",
            "results/report/metrics.parquet",
            "results/report/predictions.parquet",
            "results/report/submission.csv",
        ],
    output:
        provenance=shown("results/report/provenance.json", "Provenance"),
    log:
        "results/report/logs/write_provenance.log",
    benchmark:
        "results/report/benchmarks/write_provenance.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.report.write_provenance"),
        config=CONFIG_JSON,
        steps=code_of_all,
    shell:
        "python -m buffycoat.report.write_provenance"
        " --images {input.images:q} --sources {input.sources:q} --results {input.results:q}"
        " --config {params.config:q} --steps {params.steps:q} --provenance {output.provenance:q} 2>&1 | tee {log:q}"
