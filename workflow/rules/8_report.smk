"""
Report: scores with intervals, one prediction per image, the submission, and a page for a person.

IN   the tables of all stages
OUT  results/8_report/metrics.parquet, confusion.parquet, summary.json, predictions.parquet, submission.csv, figures/,
     report.html, suspects.html, suspects.csv, provenance.json, sbom.json
"""


rule score_labels:
    """Score every phase, out of fold and on test images with known labels, with intervals."""
    input:
        images="results/1_index/images.parquet",
        test_labels="results/1_index/test_labels.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        probabilities=f"results/5_classify/{MAIN_RECIPE}/probabilities.parquet",
        head_probabilities="results/6_embed/probabilities.parquet",
        labels="results/7_refine/labels.parquet",
    output:
        metrics="results/8_report/metrics.parquet",
        confusions="results/8_report/confusion.parquet",
        summary="results/8_report/summary.json",
    log:
        "results/8_report/logs/score_labels.log",
    benchmark:
        "results/8_report/benchmarks/score_labels.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.report.score_labels"),
        settings=settings_of("report.score_labels"),
        seed=SEED,
    shell:
        "python -m buffycoat.report.score_labels"
        " --images {input.images:q} --test-labels {input.test_labels:q} --classes {input.classes:q}"
        " --folds {input.folds:q} --probabilities {input.probabilities:q}"
        " --head-probabilities {input.head_probabilities:q} --labels {input.labels:q}"
        " --metrics {output.metrics:q} --confusions {output.confusions:q} --summary {output.summary:q}"
        " --seed {params.seed} --settings {params.settings:q} 2>&1 | tee {log:q}"


rule write_predictions:
    """Write one row per image of the data set, and the submission."""
    input:
        images="results/1_index/images.parquet",
        classes="results/1_index/classes.parquet",
        crops="results/2_crop/crops.parquet",
        noise="results/3_partition/noise.parquet",
        cells="results/4_restore/cells.parquet",
        probabilities=f"results/5_classify/{MAIN_RECIPE}/probabilities.parquet",
        labels="results/7_refine/labels.parquet",
    output:
        predictions="results/8_report/predictions.parquet",
        submission=shown("results/8_report/submission.csv", "Tables"),
    log:
        "results/8_report/logs/write_predictions.log",
    benchmark:
        "results/8_report/benchmarks/write_predictions.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.report.write_predictions"),
        settings=settings_of("report.write_predictions"),
    shell:
        "python -m buffycoat.report.write_predictions"
        " --images {input.images:q} --classes {input.classes:q} --crops {input.crops:q} --noise {input.noise:q}"
        " --cells {input.cells:q} --probabilities {input.probabilities:q} --labels {input.labels:q}"
        " --predictions {output.predictions:q} --submission {output.submission:q}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"


rule draw_figures:
    """Draw the report's figures."""
    input:
        images="results/1_index/images.parquet",
        classes="results/1_index/classes.parquet",
        test_labels="results/1_index/test_labels.parquet",
        threshold="results/3_partition/threshold.json",
        gan_history=GAN_HISTORY,
        histories=expand(
            f"results/5_classify/{MAIN_RECIPE}/fold_{{fold}}/history.parquet",
            fold=FOLDS,
        ),
        confusions="results/8_report/confusion.parquet",
        summary="results/8_report/summary.json",
        calibration=f"results/5_classify/{MAIN_RECIPE}/calibration.json",
    output:
        figures=shown(directory("results/8_report/figures"), "Figures", "{file}.png"),
    log:
        "results/8_report/logs/draw_figures.log",
    benchmark:
        "results/8_report/benchmarks/draw_figures.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.report.draw_figures"),
        settings=settings_of("report.draw_figures"),
    shell:
        "python -m buffycoat.report.draw_figures"
        " --images {input.images:q} --classes {input.classes:q} --test-labels {input.test_labels:q}"
        " --threshold {input.threshold:q} --gan-history {input.gan_history:q} --histories {input.histories:q}"
        " --confusions {input.confusions:q} --summary {input.summary:q} --calibration {input.calibration:q}"
        " --figures {output.figures:q} --settings {params.settings:q} 2>&1 | tee {log:q}"


rule write_report:
    """Write the page that shows everything; opens without a network."""
    input:
        images="results/1_index/images.parquet",
        test_labels="results/1_index/test_labels.parquet",
        classes="results/1_index/classes.parquet",
        index_summary="results/1_index/summary.json",
        receipt="results/1_index/folds_receipt.json",
        crops="results/2_crop/crops.parquet",
        crop_shards="results/2_crop/shards",
        gan_samples=GAN_SAMPLES,
        cells="results/4_restore/cells.parquet",
        refused="results/4_restore/refused.parquet",
        cell_shards="results/4_restore/shards",
        probabilities=f"results/5_classify/{MAIN_RECIPE}/probabilities.parquet",
        head_probabilities="results/6_embed/probabilities.parquet",
        labels="results/7_refine/labels.parquet",
        reference="results/7_refine/reference.json",
        metrics="results/8_report/metrics.parquet",
        summary="results/8_report/summary.json",
        predictions="results/8_report/predictions.parquet",
        calibration=f"results/5_classify/{MAIN_RECIPE}/calibration.json",
        figures="results/8_report/figures",
    output:
        report=shown("results/8_report/report.html", "Pages"),
    log:
        "results/8_report/logs/write_report.log",
    benchmark:
        "results/8_report/benchmarks/write_report.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.report.write_report"),
        settings=settings_of("report.write_report"),
        config=CONFIG_JSON,
    shell:
        "python -m buffycoat.report.write_report"
        " --images {input.images:q} --test-labels {input.test_labels:q} --classes {input.classes:q}"
        " --index-summary {input.index_summary:q} --receipt {input.receipt:q} --crops {input.crops:q}"
        " --gan-samples {input.gan_samples:q} --cells {input.cells:q} --refused {input.refused:q}"
        " --probabilities {input.probabilities:q} --head-probabilities {input.head_probabilities:q}"
        " --labels {input.labels:q} --reference {input.reference:q} --metrics {input.metrics:q} --summary {input.summary:q}"
        " --predictions {input.predictions:q} --calibration {input.calibration:q} --figures {input.figures:q}"
        " --config {params.config:q} --report {output.report:q} --settings {params.settings:q} 2>&1 | tee {log:q}"


rule write_suspects:
    """Write the page and the spreadsheet of the images that a person should look at."""
    input:
        suspects="results/7_refine/suspects.parquet",
        cells="results/4_restore/cells.parquet",
        crop_shards="results/2_crop/shards",
        cell_shards="results/4_restore/shards",
    output:
        page=shown("results/8_report/suspects.html", "Pages"),
        csv=shown("results/8_report/suspects.csv", "Tables"),
    log:
        "results/8_report/logs/write_suspects.log",
    benchmark:
        "results/8_report/benchmarks/write_suspects.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.report.write_suspects"),
        settings=settings_of("report.write_suspects"),
    shell:
        "python -m buffycoat.report.write_suspects --suspects {input.suspects:q} --cells {input.cells:q}"
        " --page {output.page:q} --csv {output.csv:q} --settings {params.settings:q} 2>&1 | tee {log:q}"


rule write_provenance:
    """Write what the results were made with and from, and the software bill of materials."""
    input:
        images="results/1_index/images.parquet",
        sources=INDEX_SOURCES,
        results=[
            "results/2_crop/crops.parquet",
            "results/4_restore/cells.parquet",
            f"results/5_classify/{MAIN_RECIPE}/probabilities.parquet",
            "results/6_embed/probabilities.parquet",
            "results/7_refine/labels.parquet",
            "results/8_report/metrics.parquet",
            "results/8_report/predictions.parquet",
            "results/8_report/submission.csv",
        ],
    output:
        provenance=shown("results/8_report/provenance.json", "Provenance"),
        sbom=shown("results/8_report/sbom.json", "Provenance"),
    log:
        "results/8_report/logs/write_provenance.log",
    benchmark:
        "results/8_report/benchmarks/write_provenance.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.report.write_provenance"),
        settings=settings_of("report.write_provenance"),
        config=CONFIG_JSON,
        steps=CODE_JSON,
    shell:
        "python -m buffycoat.report.write_provenance"
        " --images {input.images:q} --sources {input.sources:q} --results {input.results:q}"
        " --config {params.config:q} --steps {params.steps:q} --provenance {output.provenance:q} --sbom {output.sbom:q}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"
