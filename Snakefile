"""buffycoat: from raw smear images to explained labels. Table of contents of the workflow."""

import os

from snakemake.utils import min_version

from buffycoat.terminal.outlook import conclude

min_version("9.0")


# The template is for a run that names no file, data or preset: nothing of it may mix with what a user names.
if not workflow.overwrite_configfiles and not {"preset", "data"} & set(config):

    configfile: os.path.join(workflow.current_basedir, "config.yaml")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/gather.smk"
include: "workflow/rules/0_simulate.smk"
include: "workflow/rules/1_index.smk"
include: "workflow/rules/2_crop.smk"
include: "workflow/rules/3_partition.smk"
include: "workflow/rules/4_restore.smk"
include: "workflow/rules/5_classify.smk"
include: "workflow/rules/6_embed.smk"
include: "workflow/rules/7_measure.smk"
include: "workflow/rules/8_refine.smk"
include: "workflow/rules/9_review.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/ablation.smk"
include: "workflow/rules/bundle.smk"


onsuccess:
    conclude(STARTED)


# Seconds on the machine that Snakemake runs on, instead of a place in a queue.
localrules:
    gather_portions,


rule all:
    """The report, suspects, a prediction per image, the submission, what branch B is worth untrained, and provenance."""
    default_target: True
    input:
        report="results/report/report.html",
        suspects="results/9_review/suspects.html",
        predictions="results/report/predictions.parquet",
        submission="results/report/submission.csv",
        baselines="results/6_embed/baselines.parquet",
        provenance="results/report/provenance.json",


rule ablation:
    """Recipes, restorations and what is done after branch A, side by side, and robustness; trains what is not there yet."""
    input:
        table="results/report/ablation.parquet",
        csv="results/report/ablation.csv",
        page="results/report/ablation.html",
        robustness="results/report/robustness.parquet",
        curves="results/report/robustness.html",
