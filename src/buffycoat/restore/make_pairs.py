"""Step `make_pairs`: the clean training crops that synthetic pairs are made from.

The workflow does not run it again where labels alone were corrected: a corrected class does not change which crops are
clean, and the patients only divide what the generator learns from what it is judged on.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.core.steps import run
from buffycoat.data.labels import trainable
from buffycoat.data.random import stream
from buffycoat.data.tables.index import IMAGES, LABELS
from buffycoat.data.tables.partition import NOISE
from buffycoat.data.tables.restore import PAIRS
from buffycoat.restore.settings import MakePairs

log = logging.getLogger("buffycoat")


FOR_ABLATION = ", and for the ablation take pix2pix out of report.compare_recipes.restorations"
"""What else has to change where Pix2Pix cannot be trained."""


def divide_pairs(rows: pd.DataFrame, held_out: float, seed: int) -> pd.DataFrame:
    """Return image_id and part; whole groups are held out, at least one, and never all."""
    groups = rows["group"].where(rows["group"].notna(), "image:" + rows["image_id"])
    names = sorted(groups.unique())
    if len(names) < 2:
        raise InputError(
            "restore: all clean training crops are of one group, so none can be held out; use method median"
            f"{FOR_ABLATION}"
        )
    count = min(len(names) - 1, max(1, round(held_out * len(names))))
    chosen = set(stream(seed, "pairs").choice(np.array(names, dtype=object), size=count, replace=False))
    part = np.where(groups.isin(chosen), "held_out", "fit")
    return pd.DataFrame({"image_id": rows["image_id"], "part": part})


def make_pairs(*, images: Path, labels: Path, noise: Path, pairs: Path, seed: int, settings: MakePairs) -> None:
    """List the clean crops of trainable images, some groups held out for judging."""
    rows = trainable(IMAGES.read(images), LABELS.read(labels))
    rows = rows.merge(NOISE.read(noise)[["image_id", "noisy"]], on="image_id")
    clean = rows[~rows["noisy"]].reset_index(drop=True)
    if clean.empty:
        raise InputError(
            "restore.make_pairs: every training crop is flagged as noisy, so there is nothing clean to learn from;"
            " raise partition.flag_noisy.level (threshold: fixed), or set restore.restore_cells.method: median"
            f"{FOR_ABLATION}"
        )
    divided = divide_pairs(clean, settings.held_out, seed)
    log.info("pairs: %s", divided["part"].value_counts().to_dict())
    PAIRS.write(divided, pairs)


if __name__ == "__main__":
    run(make_pairs)
