"""Step `combine_folds`: one row of probabilities per image, from all folds and views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from buffycoat.classify.settings import CombineFolds
from buffycoat.errors import InputError
from buffycoat.steps import run
from buffycoat.tables.classes import CLASSES, class_codes
from buffycoat.tables.folds import FOLDS
from buffycoat.tables.images import IMAGES, decodable
from buffycoat.tables.logits import LOGITS
from buffycoat.tables.probabilities import PROBABILITIES
from buffycoat.tables.schema import require_same_keys


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis, in float64; rows sum to one."""
    values = logits.astype(np.float64)
    values = np.exp(values - values.max(axis=-1, keepdims=True))
    normalised: np.ndarray = values / values.sum(axis=-1, keepdims=True)
    return normalised


def mean_probabilities(logits: pd.DataFrame, codes: list[str]) -> pd.DataFrame:
    """Return image_id, source and one column per class: the mean softmax over the rows (folds, views) of each image."""
    frame = pd.DataFrame(softmax(logits[codes].to_numpy()), columns=codes)
    frame.insert(0, "image_id", logits["image_id"].to_numpy(object))
    frame.insert(1, "out_of_fold", logits["out_of_fold"].to_numpy())
    means = frame.groupby("image_id", sort=False).mean().reset_index()
    # A mean of rows that sum to one sums to one up to rounding; the division makes it exact enough to test.
    means[codes] = means[codes].div(means[codes].sum(axis=1), axis=0)
    source = np.where(means.pop("out_of_fold") > 0.5, "out_of_fold", "fold_mean")
    means.insert(1, "source", source)
    return means


def check_rows(logits: pd.DataFrame, folds: pd.DataFrame, fold_count: int) -> None:
    """Raise InputError unless trainable images come from the fold that held them out, the others from every fold."""
    held = folds.set_index("image_id")["fold"]
    own = logits[logits["out_of_fold"]]
    if not (own["fold"].to_numpy() == held.reindex(own["image_id"]).to_numpy()).all():
        raise InputError("logits of a training image come from a fold that learned it; delete results/5_classify")
    others = logits[~logits["out_of_fold"]]
    if others["image_id"].isin(held.index).any():
        raise InputError("a training image is marked as not held out; delete results/5_classify and run again")
    if not others.empty and (others.groupby("image_id")["fold"].nunique() != fold_count).any():
        raise InputError("an image lacks the logits of a fold; delete results/5_classify and run again")


def combine_folds(
    *, images: Path, classes: Path, folds: Path, logits: list[Path], probabilities: Path, settings: CombineFolds
) -> None:
    """Average softmax over views and folds; write one row per decodable image."""
    codes = class_codes(CLASSES.read(classes))
    rows = decodable(IMAGES.read(images))
    frame = pd.concat([LOGITS.read(path) for path in logits], ignore_index=True)
    check_rows(frame, FOLDS.read(folds), len(logits))
    combined = mean_probabilities(frame, codes)
    require_same_keys(combined["image_id"], rows["image_id"], str(probabilities))
    ordered = rows[["image_id"]].merge(combined, on="image_id", validate="one_to_one")
    PROBABILITIES.write(ordered, probabilities)


if __name__ == "__main__":
    run(combine_folds)
