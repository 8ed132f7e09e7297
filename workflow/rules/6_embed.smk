"""
Embed (branch B): embeddings of a foundation model, and a contrastive head on them.

IN   results/1_index/, 4_restore/ (the run's restoration) and the shards that its cells name
OUT  results/6_embed/portions/{scatteritem}/, embeddings.parquet (gathered), heads.safetensors, head_history.parquet,
     probabilities.parquet, knn_probabilities.parquet, baselines.parquet
"""


rule embed_cells:
    """Embed every cell, and every class name where the encoder has text."""
    input:
        # A corrected label changes the numbers in this table, and must not embed anything again.
        classes=ancient("results/1_index/classes.parquet"),
        cells=CELLS,
        crop_shards="results/2_crop/portions/{scatteritem}/shards",
        cell_shards=CELL_SHARDS,
    output:
        embeddings="results/6_embed/portions/{scatteritem}/embeddings.parquet",
        prompts="results/6_embed/portions/{scatteritem}/prompts.parquet",
    log:
        "results/6_embed/logs/embed_cells_{scatteritem}.log",
    benchmark:
        "results/6_embed/benchmarks/embed_cells_{scatteritem}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 8
    resources:
        gpu=1,
    params:
        code=code_of("buffycoat.embed.embed_cells"),
        settings=settings_of("embed.embed_cells"),
    shell:
        "python -m buffycoat.embed.embed_cells"
        " --cells {input.cells:q} --classes {input.classes:q}"
        " --embeddings {output.embeddings:q} --prompts {output.prompts:q} --portion {wildcards.scatteritem:q}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"


rule train_head:
    """Fit the contrastive heads on the folds of branch A."""
    input:
        images="results/1_index/images.parquet",
        labels="results/1_index/labels.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        embeddings="results/6_embed/embeddings.parquet",
    output:
        heads="results/6_embed/heads.safetensors",
        probabilities="results/6_embed/probabilities.parquet",
        history="results/6_embed/head_history.parquet",
    log:
        "results/6_embed/logs/train_head.log",
    benchmark:
        "results/6_embed/benchmarks/train_head.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 8
    params:
        code=code_of("buffycoat.embed.train_head"),
        settings=settings_of("embed.train_head"),
        seed=SEED,
    shell:
        "python -m buffycoat.embed.train_head"
        " --images {input.images:q} --labels {input.labels:q} --classes {input.classes:q} --folds {input.folds:q}"
        " --embeddings {input.embeddings:q} --heads {output.heads:q}"
        " --probabilities {output.probabilities:q} --history {output.history:q}"
        " --seed {params.seed} --settings {params.settings:q} 2>&1 | tee {log:q}"


rule score_baselines:
    """Judge the embeddings without training: nearest neighbours, and class names where the encoder has text."""
    input:
        images="results/1_index/images.parquet",
        labels="results/1_index/labels.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        embeddings="results/6_embed/embeddings.parquet",
        prompts=PROMPTS,
    output:
        knn="results/6_embed/knn_probabilities.parquet",
        baselines="results/6_embed/baselines.parquet",
    log:
        "results/6_embed/logs/score_baselines.log",
    benchmark:
        "results/6_embed/benchmarks/score_baselines.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 8
    params:
        code=code_of("buffycoat.embed.score_baselines"),
    shell:
        "python -m buffycoat.embed.score_baselines"
        " --images {input.images:q} --labels {input.labels:q} --classes {input.classes:q} --folds {input.folds:q}"
        " --embeddings {input.embeddings:q} --prompts {input.prompts:q}"
        " --knn {output.knn:q} --baselines {output.baselines:q} 2>&1 | tee {log:q}"
