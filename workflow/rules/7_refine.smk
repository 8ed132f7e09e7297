"""
Refine: rare cells found again by morphology and the second branch, with evidence.

IN   results/1_index/, 2_crop/, 4_restore/, 5_classify/<recipe>/ (probabilities, logits of the folds), 6_embed/
OUT  results/7_refine/morphology.parquet, reference.json, labels.parquet, suspects.parquet; alternatives.parquet for the
     ablation alone; portions/ while they are gathered
"""


rule measure_cells:
    """Measure shape, size and colour of each cell inside its mask; or gather what the portions' jobs measured."""
    input:
        crops="results/2_crop/crops.parquet",
        cells="results/4_restore/cells.parquet",
        crop_shards="results/2_crop/shards",
        cell_shards="results/4_restore/shards",
        portions=portions_of("results/7_refine/portions/{portion}/morphology.parquet"),
    output:
        morphology="results/7_refine/morphology.parquet",
    log:
        "results/7_refine/logs/measure_cells.log",
    benchmark:
        "results/7_refine/benchmarks/measure_cells.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 16
    params:
        code=code_of("buffycoat.refine.measure_cells"),
        settings=settings_of("refine.measure_cells"),
        portion="1/1",
    shell:
        "python -m buffycoat.refine.measure_cells"
        " --crops {input.crops:q} --cells {input.cells:q} --portions {input.portions:q}"
        " --morphology {output.morphology:q} --portion {params.portion:q}"
        " --threads {threads} --settings {params.settings:q} 2>&1 | tee {log:q}"


use rule measure_cells as measure_cells_portion with:
    input:
        crops="results/2_crop/crops.parquet",
        cells="results/4_restore/cells.parquet",
        crop_shards="results/2_crop/shards",
        cell_shards="results/4_restore/shards",
        portions=[],
    output:
        morphology=temp("results/7_refine/portions/{portion}/morphology.parquet"),
    log:
        "results/7_refine/logs/portions/measure_cells_{portion}.log",
    benchmark:
        "results/7_refine/benchmarks/portions/measure_cells_{portion}.tsv"
    params:
        code=code_of("buffycoat.refine.measure_cells"),
        settings=settings_of("refine.measure_cells"),
        portion=PORTION,


rule fit_reference:
    """Fit the rules on training cells out of fold and decide which are on."""
    input:
        images="results/1_index/images.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        probabilities=f"results/5_classify/{MAIN_RECIPE}/probabilities.parquet",
        head_probabilities="results/6_embed/probabilities.parquet",
        morphology="results/7_refine/morphology.parquet",
    output:
        reference="results/7_refine/reference.json",
    log:
        "results/7_refine/logs/fit_reference.log",
    benchmark:
        "results/7_refine/benchmarks/fit_reference.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.refine.fit_reference"),
        settings=settings_of("refine.fit_reference"),
    shell:
        "python -m buffycoat.refine.fit_reference"
        " --images {input.images:q} --classes {input.classes:q} --folds {input.folds:q}"
        " --probabilities {input.probabilities:q} --head-probabilities {input.head_probabilities:q}"
        " --morphology {input.morphology:q} --reference {output.reference:q}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"


rule refine_labels:
    """Apply the rules that are on to every image; each change carries its evidence."""
    input:
        images="results/1_index/images.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        probabilities=f"results/5_classify/{MAIN_RECIPE}/probabilities.parquet",
        head_probabilities="results/6_embed/probabilities.parquet",
        morphology="results/7_refine/morphology.parquet",
        reference="results/7_refine/reference.json",
    output:
        labels="results/7_refine/labels.parquet",
    log:
        "results/7_refine/logs/refine_labels.log",
    benchmark:
        "results/7_refine/benchmarks/refine_labels.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.refine.refine_labels"),
        settings=settings_of("refine.refine_labels"),
    shell:
        "python -m buffycoat.refine.refine_labels"
        " --images {input.images:q} --classes {input.classes:q} --folds {input.folds:q}"
        " --probabilities {input.probabilities:q} --head-probabilities {input.head_probabilities:q}"
        " --morphology {input.morphology:q} --reference {input.reference:q} --labels {output.labels:q}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"


rule try_alternatives:
    """Try the simple ways of helping rare classes beside the rules."""
    input:
        images="results/1_index/images.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        probabilities=f"results/5_classify/{MAIN_RECIPE}/probabilities.parquet",
        head_probabilities="results/6_embed/probabilities.parquet",
        morphology="results/7_refine/morphology.parquet",
        labels="results/7_refine/labels.parquet",
    output:
        alternatives="results/7_refine/alternatives.parquet",
    log:
        "results/7_refine/logs/try_alternatives.log",
    benchmark:
        "results/7_refine/benchmarks/try_alternatives.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.refine.try_alternatives"),
        settings=settings_of("refine.try_alternatives"),
    shell:
        "python -m buffycoat.refine.try_alternatives"
        " --images {input.images:q} --classes {input.classes:q} --folds {input.folds:q}"
        " --probabilities {input.probabilities:q} --head-probabilities {input.head_probabilities:q}"
        " --morphology {input.morphology:q} --labels {input.labels:q} --alternatives {output.alternatives:q}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"


rule find_suspects:
    """Find the images that a person should look at, and say why."""
    input:
        images="results/1_index/images.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        probabilities=f"results/5_classify/{MAIN_RECIPE}/probabilities.parquet",
        logits=expand(
            f"results/5_classify/{MAIN_RECIPE}/fold_{{fold}}/logits.parquet",
            fold=FOLDS,
        ),
        head_probabilities="results/6_embed/probabilities.parquet",
        embeddings="results/6_embed/embeddings.parquet",
    output:
        suspects="results/7_refine/suspects.parquet",
        familiar="results/7_refine/familiar.safetensors",
    log:
        "results/7_refine/logs/find_suspects.log",
    benchmark:
        "results/7_refine/benchmarks/find_suspects.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.refine.find_suspects"),
        settings=settings_of("refine.find_suspects"),
    shell:
        "python -m buffycoat.refine.find_suspects"
        " --images {input.images:q} --classes {input.classes:q} --folds {input.folds:q}"
        " --probabilities {input.probabilities:q} --logits {input.logits:q}"
        " --head-probabilities {input.head_probabilities:q} --embeddings {input.embeddings:q}"
        " --suspects {output.suspects:q} --familiar {output.familiar:q}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"
