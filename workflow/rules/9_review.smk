"""
Review: which images a person should look at, and why.

IN   results/1_index/, 4_restore/ (pictures), 5_classify/ (probabilities and logits of the main recipe), 6_embed/
OUT  results/9_review/suspects.parquet, familiar.safetensors, suspects.html, suspects.csv
"""


rule find_suspects:
    """Find the images that a person should look at, and say why."""
    input:
        images="results/1_index/images.parquet",
        labels="results/1_index/labels.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        probabilities=f"{CLASSIFIED}/probabilities.parquet",
        logits=expand(
            f"{CLASSIFIED}/fold_{{fold}}/logits.parquet",
            fold=FOLDS,
        ),
        head_probabilities="results/6_embed/probabilities.parquet",
        embeddings="results/6_embed/embeddings.parquet",
        crops="results/2_crop/crops.parquet",
    output:
        suspects="results/9_review/suspects.parquet",
        familiar="results/9_review/familiar.safetensors",
    log:
        "results/9_review/logs/find_suspects.log",
    benchmark:
        "results/9_review/benchmarks/find_suspects.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.review.find_suspects"),
        settings=settings_of("review.find_suspects"),
    shell:
        "python -m buffycoat.review.find_suspects"
        " --images {input.images:q} --labels {input.labels:q} --classes {input.classes:q} --folds {input.folds:q}"
        " --probabilities {input.probabilities:q} --logits {input.logits:q}"
        " --head-probabilities {input.head_probabilities:q} --embeddings {input.embeddings:q} --crops {input.crops:q}"
        " --suspects {output.suspects:q} --familiar {output.familiar:q}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"


rule write_suspects:
    """Write the page and the spreadsheet of the images that a person should look at."""
    input:
        suspects="results/9_review/suspects.parquet",
        cells=CELLS,
        crop_shards=CROP_SHARDS,
        cell_shards=CELL_SHARDS,
    output:
        page=shown("results/9_review/suspects.html", "Pages"),
        csv=shown("results/9_review/suspects.csv", "Tables"),
    log:
        "results/9_review/logs/write_suspects.log",
    benchmark:
        "results/9_review/benchmarks/write_suspects.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.review.write_suspects"),
        data=data_of,
    shell:
        "python -m buffycoat.review.write_suspects --suspects {input.suspects:q} --cells {input.cells:q}"
        " --page {output.page:q} --csv {output.csv:q} --data {params.data:q} 2>&1 | tee {log:q}"
