"""buffycoat: from raw smear images to explained labels. Table of contents of the workflow."""

import os

from snakemake.utils import min_version

min_version("9.0")


configfile: os.path.join(workflow.current_basedir, "config.yaml")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/0_simulate.smk"
include: "workflow/rules/1_index.smk"
include: "workflow/rules/2_crop.smk"
include: "workflow/rules/3_partition.smk"
include: "workflow/rules/4_restore.smk"
include: "workflow/rules/5_classify.smk"
include: "workflow/rules/6_embed.smk"
include: "workflow/rules/7_refine.smk"
include: "workflow/rules/8_report.smk"
include: "workflow/rules/9_bundle.smk"
include: "workflow/rules/ablation.smk"


rule all:
    """The report, suspects, a prediction per image, the submission, what branch B is worth untrained, and provenance."""
    default_target: True
    input:
        report="results/8_report/report.html",
        suspects="results/8_report/suspects.html",
        predictions="results/8_report/predictions.parquet",
        submission="results/8_report/submission.csv",
        baselines="results/6_embed/baselines.parquet",
        provenance="results/8_report/provenance.json",
        sbom="results/8_report/sbom.json",


rule ablation:
    """Recipes, restorations and what is done after branch A, side by side, and robustness; trains what is not there yet."""
    input:
        table="results/8_report/ablation.parquet",
        csv="results/8_report/ablation.csv",
        page="results/8_report/ablation.html",
        robustness="results/8_report/robustness.parquet",
        curves="results/8_report/robustness.html",


rule bundle:
    """Everything that was learned, in one folder that others can use."""
    input:
        bundle="results/9_bundle/bundle",
