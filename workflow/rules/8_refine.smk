"""
Refine: rare cells found again by morphology and the second branch, with evidence.

IN   results/1_index/, 5_classify/ (probabilities of the main recipe), 6_embed/, 7_measure/
OUT  results/8_refine/rules.json, refined_labels.parquet; alternatives.parquet for the ablation alone
"""


rule fit_rules:
    """Fit the rules on training cells out of fold and decide which are on."""
    input:
        images="results/1_index/images.parquet",
        labels="results/1_index/labels.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        probabilities=f"{CLASSIFIED}/probabilities.parquet",
        head_probabilities="results/6_embed/probabilities.parquet",
        morphology="results/7_measure/morphology.parquet",
    output:
        rules="results/8_refine/rules.json",
    log:
        "results/8_refine/logs/fit_rules.log",
    benchmark:
        "results/8_refine/benchmarks/fit_rules.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.refine.fit_rules"),
        settings=settings_of("refine.fit_rules"),
    shell:
        "python -m buffycoat.refine.fit_rules"
        " --images {input.images:q} --labels {input.labels:q} --classes {input.classes:q} --folds {input.folds:q}"
        " --probabilities {input.probabilities:q} --head-probabilities {input.head_probabilities:q}"
        " --morphology {input.morphology:q} --rules {output.rules:q}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"


rule refine_labels:
    """Apply the rules that are on to every image; each change carries its evidence."""
    input:
        images="results/1_index/images.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        probabilities=f"{CLASSIFIED}/probabilities.parquet",
        head_probabilities="results/6_embed/probabilities.parquet",
        morphology="results/7_measure/morphology.parquet",
        rules="results/8_refine/rules.json",
    output:
        refined_labels="results/8_refine/refined_labels.parquet",
    log:
        "results/8_refine/logs/refine_labels.log",
    benchmark:
        "results/8_refine/benchmarks/refine_labels.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.refine.refine_labels"),
    shell:
        "python -m buffycoat.refine.refine_labels"
        " --images {input.images:q} --classes {input.classes:q} --folds {input.folds:q}"
        " --probabilities {input.probabilities:q} --head-probabilities {input.head_probabilities:q}"
        " --morphology {input.morphology:q} --rules {input.rules:q} --refined-labels {output.refined_labels:q}"
        " 2>&1 | tee {log:q}"


rule try_alternatives:
    """Try the simple ways of helping rare classes beside the rules."""
    input:
        images="results/1_index/images.parquet",
        labels="results/1_index/labels.parquet",
        classes="results/1_index/classes.parquet",
        folds="results/1_index/folds.parquet",
        probabilities=f"{CLASSIFIED}/probabilities.parquet",
        head_probabilities="results/6_embed/probabilities.parquet",
        morphology="results/7_measure/morphology.parquet",
        refined_labels="results/8_refine/refined_labels.parquet",
    output:
        alternatives="results/8_refine/alternatives.parquet",
    log:
        "results/8_refine/logs/try_alternatives.log",
    benchmark:
        "results/8_refine/benchmarks/try_alternatives.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 1
    params:
        code=code_of("buffycoat.refine.try_alternatives"),
    shell:
        "python -m buffycoat.refine.try_alternatives"
        " --images {input.images:q} --labels {input.labels:q} --classes {input.classes:q} --folds {input.folds:q}"
        " --probabilities {input.probabilities:q} --head-probabilities {input.head_probabilities:q}"
        " --morphology {input.morphology:q} --refined-labels {input.refined_labels:q} --alternatives {output.alternatives:q}"
        " 2>&1 | tee {log:q}"
