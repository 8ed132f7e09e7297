"""Checked settings, code digests and the ranges of the wildcards; no rules."""

import json
from functools import partial

from snakemake.exceptions import WorkflowError

from buffycoat.captions import shown_as
from buffycoat.config import (
    check_run,
    files_of_portions,
    keep_warnings_for_trainings,
    settings_json,
    step_names,
    use_own_python,
)
from buffycoat.errors import InputError
from buffycoat.provenance import code_digest
from buffycoat.recipes import body_model

use_own_python()
keep_warnings_for_trainings()

try:
    CONFIG = check_run(config)
except InputError as problem:
    raise WorkflowError(str(problem)) from None


def settings_of(key):
    """Return the settings of the rule `<stage>.<rule>` as JSON, for `params`."""
    return settings_json(CONFIG, key)


def code_of(module):
    """Return the digest of a step's code, for `params`."""
    return code_digest(module)


def restored_otherwise(wildcards):
    """Return the settings of restoration by the method that the ablation asks for, for `params`."""
    return settings_json(CONFIG, "restore.restore_cells", method=wildcards.restoration)


def generator_otherwise(wildcards):
    """Return the trained generator in a list; an empty one where the method needs none."""
    return TRAINED_GENERATOR * (wildcards.restoration == "pix2pix")


def body_of(wildcards):
    """Return the model that a recipe's fold starts from, in a list; an empty one where it starts by itself."""
    return body_model(wildcards.recipe, wildcards.fold, wildcards.get("restoration"))


def shown(path, category, pattern=None):
    """Return an output that `snakemake --report` shows; its caption is workflow/report/<its name>.rst."""
    return report(path, category=category, **shown_as(path, pattern))


SEED = CONFIG.seed
# The costly steps without training may be divided into portions of the rows, which they then gather.
portions_of = partial(files_of_portions, CONFIG)
WHOLE = int(CONFIG.portions == 1)
PORTION = f"{{portion}}/{CONFIG.portions}"
CONFIG_JSON = json.dumps(CONFIG.model_dump(mode="json"), sort_keys=True)
CODE_JSON = json.dumps({key: code_digest(f"buffycoat.{key}") for key in step_names()})
INDEX_SOURCES = CONFIG.index.make_index.source_files()
FOLDS = list(range(CONFIG.index.make_folds.folds))
MAIN_RECIPE = CONFIG.classify.recipe
COMPARED = list(dict.fromkeys([MAIN_RECIPE, *CONFIG.report.compare_recipes.recipes]))
PROCESSES = CONFIG.classify.train_fold.processes
# Cropping uses a GPU unless it is classical; a segmenter is trained only where masks are named.
CROP_GPU = int(CONFIG.crop.crop_cells.chosen_method() != "stain")
MASK_SETS = list(CONFIG.crop.train_segmenter.masks)
SEGMENTER = ["results/2_crop/segmenter.safetensors"] if MASK_SETS else []
# Files of Pix2Pix, needed only where it is the method.
PIX2PIX = CONFIG.restore.restore_cells.method == "pix2pix"
TRAINED_GENERATOR = ["results/4_restore/generator.safetensors"]
GENERATOR = TRAINED_GENERATOR * PIX2PIX
GAN_HISTORY = ["results/4_restore/gan_history.parquet"] if PIX2PIX else []
GAN_SAMPLES = ["results/4_restore/gan_samples.png"] if PIX2PIX else []


wildcard_constraints:
    fold=r"\d+",
    portion=r"\d+",
    recipe=r"[a-z_]+",
    restoration="keep|median|pix2pix",
