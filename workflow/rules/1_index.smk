"""
Index: every image of the data set, checked once, with a status; what the experts say of them; and the folds, by patient.

IN   the user's data: a table, class folders, boxes on fields, Parquet files with images, or WBCBench's folder
OUT  results/1_index/images.parquet, pixels.parquet (no label in them: a corrected label does not crop, restore, embed
     or measure again), labels.parquet, classes.parquet, test_labels.parquet, summary.json, folds.parquet, folds_report.json
"""

from buffycoat.config import listed_rows
from buffycoat.index.listed import Listed, listed_inside

LISTED = listed_inside(CONFIG.data, CONFIG.index) or Listed(listed_rows(CONFIG))


rule make_index:
    """Check every image file; a fault is a status with a reason."""
    input:
        # Of the user's lists only the rows without the labels count here: params.rows.
        lists=LISTS if lists_are_drawn(CONFIG) else ancient(LISTS),
        folders=folders_of(CONFIG.data),
    output:
        images="results/1_index/images.parquet",
        pixels="results/1_index/pixels.parquet",
    log:
        "results/1_index/logs/make_index.log",
    benchmark:
        "results/1_index/benchmarks/make_index.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 16
    params:
        code=code_of("buffycoat.index.make_index"),
        data=data_of,
        columns=columns_of("image", "split", "pattern"),
        settings=settings_of("index.make_index"),
        rows=LISTED.rows,
        others=LISTED.others,
    shell:
        "python -m buffycoat.index.make_index"
        " --data {params.data:q} --lists {input.lists:q} --folders {input.folders:q} --images {output.images:q}"
        " --pixels {output.pixels:q} --threads {threads} --others {params.others:q} --columns {params.columns:q}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"


rule make_labels:
    """Take up the experts' labels and patients; a fault is a status with a reason."""
    input:
        lists=LISTS,
        answers=CONFIG.index.make_labels.answers(),
        images="results/1_index/images.parquet",
        pixels="results/1_index/pixels.parquet",
    output:
        labels="results/1_index/labels.parquet",
        classes="results/1_index/classes.parquet",
        test_labels="results/1_index/test_labels.parquet",
        summary="results/1_index/summary.json",
    log:
        "results/1_index/logs/make_labels.log",
    benchmark:
        "results/1_index/benchmarks/make_labels.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.index.make_labels"),
        data=data_of,
        columns=columns_of("image", "label", "group", "pattern"),
        settings=settings_of("index.make_labels"),
        # Annotations of fields are too many files to be inputs: a change of a label is told by a digest.
        said=LISTED.said,
    shell:
        "python -m buffycoat.index.make_labels"
        " --data {params.data:q} --images {input.images:q} --pixels {input.pixels:q} --labels {output.labels:q}"
        " --classes {output.classes:q} --test-labels {output.test_labels:q} --summary {output.summary:q}"
        " --columns {params.columns:q} --settings {params.settings:q} 2>&1 | tee {log:q}"


rule make_folds:
    """Divide the trainable images into folds; print and store the receipt."""
    input:
        images="results/1_index/images.parquet",
        labels="results/1_index/labels.parquet",
        classes="results/1_index/classes.parquet",
    output:
        folds="results/1_index/folds.parquet",
        receipt="results/1_index/folds_report.json",
    log:
        "results/1_index/logs/make_folds.log",
    benchmark:
        "results/1_index/benchmarks/make_folds.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.index.make_folds"),
        settings=settings_of("index.make_folds"),
        seed=SEED,
    shell:
        "python -m buffycoat.index.make_folds"
        " --images {input.images:q} --labels {input.labels:q} --classes {input.classes:q}"
        " --folds {output.folds:q} --receipt {output.receipt:q}"
        " --seed {params.seed} --settings {params.settings:q} 2>&1 | tee {log:q}"
