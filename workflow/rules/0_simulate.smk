"""
Simulate: the embedded data set. Made only where `data` names it, as the preset demo does.

IN   nothing
OUT  results/0_simulate/smears/ in the layout of WBCBench 2026 (phase1/, phase2/, four CSVs), with test_labels.csv and
     truth/ (masks of cell and nucleus, clean originals, patient, severity) beside it
"""


rule draw_smears:
    """Draw smear fields of thirteen classes, many patients and a long tail."""
    output:
        phase1=directory("results/0_simulate/smears/phase1"),
        phase2=directory("results/0_simulate/smears/phase2"),
        truth=directory("results/0_simulate/smears/truth"),
        phase1_label="results/0_simulate/smears/phase1_label.csv",
        phase2_train="results/0_simulate/smears/phase2_train.csv",
        phase2_eval="results/0_simulate/smears/phase2_eval.csv",
        phase2_test="results/0_simulate/smears/phase2_test.csv",
        test_labels="results/0_simulate/smears/test_labels.csv",
        masks="results/0_simulate/smears/masks.csv",
    log:
        "results/0_simulate/logs/draw_smears.log",
    benchmark:
        "results/0_simulate/benchmarks/draw_smears.tsv"
    conda:
        "../../envs/core.yaml"
    threads: 16
    params:
        code=code_of("buffycoat.simulate.draw_smears"),
        settings=settings_of("simulate.draw_smears"),
        seed=SEED,
        smears=subpath(output.test_labels, parent=True),
    shell:
        "python -m buffycoat.simulate.draw_smears"
        " --smears {params.smears:q} --seed {params.seed} --threads {threads}"
        " --settings {params.settings:q} 2>&1 | tee {log:q}"
