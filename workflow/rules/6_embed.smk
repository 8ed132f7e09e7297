"""
Embed (branch B): embeddings of a foundation model, and a contrastive head on them.

IN   results/1_index/, results/4_restore/cells.parquet and the shards it names
OUT  results/6_embed/embeddings.parquet, heads.safetensors, head_history.parquet, probabilities.parquet
"""


rule embed_cells:
    """Embed every cell."""
    input:
        cells="results/4_restore/cells.parquet",
        crop_shards="results/2_crop/shards",
        cell_shards="results/4_restore/shards",
    output:
        embeddings="results/6_embed/embeddings.parquet",
    log:
        "results/6_embed/logs/embed_cells.log",
    benchmark:
        "results/6_embed/benchmarks/embed_cells.tsv"
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
        " --cells {input.cells:q} --embeddings {output.embeddings:q}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"


rule train_head:
    """Fit the contrastive heads on the folds of branch A."""
    input:
        images="results/1_index/images.parquet",
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
        " --images {input.images:q} --classes {input.classes:q} --folds {input.folds:q}"
        " --embeddings {input.embeddings:q} --heads {output.heads:q}"
        " --probabilities {output.probabilities:q} --history {output.history:q}"
        " --seed {params.seed} --settings {params.settings:q} 2>&1 | tee {log:q}"
