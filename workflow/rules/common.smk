"""Checked settings, code digests and the ranges of the wildcards; no rules."""

import json
import sys

from buffycoat.config import (
    check_workflow,
    hand_on_runtime,
    keep_warnings_for_trainings,
    lists_are_drawn,
    science_json,
    settings_json,
    use_own_python,
)
from buffycoat.core.errors import InputError
from buffycoat.core.provenance import code_digest
from buffycoat.data.methods import body_model
from buffycoat.index.lists import folders_of, lists_of
from buffycoat.terminal.outlook import introduce

use_own_python()
keep_warnings_for_trainings()

CODES = {}
try:
    CONFIG = check_workflow(config, workflow.configfiles, workflow.is_main_process)
    STARTED = introduce(CONFIG) if workflow.is_main_process else None
except InputError as problem:
    # One line, without the places in this file that Snakemake would add.
    print(problem, file=sys.stderr)
    sys.exit(2)
hand_on_runtime(CONFIG)


def settings_of(key):
    """Return the settings of the rule `<stage>.<rule>` as JSON, for `params`."""
    return settings_json(CONFIG, key)


def columns_of(*names):
    """Return the names of some of a table's columns as JSON, for `params`: a step runs again for its own alone."""
    return json.dumps(
        CONFIG.index.columns.model_dump(include=set(names)), sort_keys=True
    )


def data_of(_):
    """Return the path of the user's data, for `params`."""
    return CONFIG.data


def code_of(module):
    """Return the digest of a step's code, for `params`, and note it for the provenance."""
    CODES[module.partition(".")[2]] = code_digest(module)
    return code_digest(module)


def restore_settings(wildcards):
    """Return the settings of restoration by the method that the file asked for names, for `params`."""
    return settings_json(CONFIG, "restore.restore_cells", method=wildcards.restoration)


def generator_of(wildcards):
    """Return the trained generator in a list; an empty one where the restoration needs none."""
    return TRAINED_GENERATOR * (wildcards.restoration == "pix2pix")


def body_of(wildcards):
    """Return the model that a recipe's fold starts from, in a list; an empty one where it starts by itself."""
    return body_model(wildcards.restoration, wildcards.recipe, wildcards.fold)


def portions_of(wildcards):
    """Return the portions of a gathered table, in order."""
    stage, table = wildcards.gathered.split("/")
    return gather.portions(f"results/{stage}/portions/{{scatteritem}}/{table}.parquet")


def code_of_all(wildcards):
    """Return the code digest of every step as JSON, for the provenance."""
    return json.dumps(CODES, sort_keys=True)


def shown(path, category, pattern=None):
    """Return an output that `snakemake --report` shows; its caption is workflow/report/<its name>.rst."""
    name = path.rpartition("/")[2]
    return report(
        path,
        category=category,
        caption=f"../report/{name.partition('.')[0]}.rst",
        labels={"file": "{file}" if pattern else name},
        patterns=[pattern] if pattern else [],
    )


SEED = CONFIG.seed
CONFIG_JSON = science_json(CONFIG)
LISTS = lists_of(CONFIG.data)
FOLDS = list(range(CONFIG.index.make_folds.folds))
MAIN_RECIPE = CONFIG.classify.recipe
COMPARED = CONFIG.report.compare_recipes.with_main(MAIN_RECIPE)
# Cropping uses a GPU unless it is classical; a segmenter is trained only where masks are named.
CROP_GPU = int(CONFIG.crop.crop_cells.chosen_method() != "stain")
MASK_SETS = list(CONFIG.crop.train_segmenter.masks)
SEGMENTER = ["results/2_crop/segmenter.safetensors"] if MASK_SETS else []
# What the run's own restoration and recipe leave, which later stages read.
RESTORATION = CONFIG.restore.restore_cells.method
RESTORED = f"results/4_restore/{RESTORATION}"
CELLS = f"{RESTORED}/cells.parquet"
CELL_SHARDS = f"{RESTORED}/shards"
CLASSIFIED = f"results/5_classify/{RESTORATION}/{MAIN_RECIPE}"
OTHERWISE = CONFIG.report.compare_recipes.others_than(RESTORATION)
# Files of Pix2Pix, needed only where it is the method.
PIX2PIX = RESTORATION == "pix2pix"
TRAINED_GENERATOR = ["results/4_restore/generator.safetensors"]
GENERATOR = TRAINED_GENERATOR * PIX2PIX
GAN_HISTORY = ["results/4_restore/gan_history.parquet"] if PIX2PIX else []
GAN_SAMPLES = ["results/4_restore/gan_samples.png"] if PIX2PIX else []


# How many jobs divide the images among them in the costly steps without training: `--set-scatter portions=8`.
scattergather:
    portions=1,


CROP_SHARDS = gather.portions("results/2_crop/portions/{scatteritem}/shards")
PROMPTS = gather.portions("results/6_embed/portions/{scatteritem}/prompts.parquet")[0]


wildcard_constraints:
    fold=r"\d+",
    recipe=r"[a-z_]+",
    restoration="keep|median|pix2pix",
    gathered="2_crop/crops|3_partition/noise_scores|6_embed/embeddings|7_measure/morphology",
