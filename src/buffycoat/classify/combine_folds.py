"""Step `combine_folds`: one row of probabilities per image, from all folds and views."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from buffycoat.classify.settings import CombineFolds
from buffycoat.core.errors import InputError
from buffycoat.core.files import write_json
from buffycoat.core.steps import run
from buffycoat.data.labels import class_numbers, trainable
from buffycoat.data.tables.classify import LOGITS, PROBABILITIES
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, LABELS, class_codes, decodable
from buffycoat.data.tables.schema import require_same_keys
from buffycoat.stats.calibration import calibrate

log = logging.getLogger("buffycoat")


@dataclass(frozen=True)
class FoldEnsemble:
    """What the mean over folds and views needs."""

    codes: list[str]
    """The classes, in the order of the columns."""
    temperature: float
    """What logits are divided by, unitless."""
    by_fold: dict[str, float]
    """The same for the images that a fold held out: fitted on the other folds."""


def ensemble_of(codes: list[str], calibration: dict[str, Any]) -> FoldEnsemble:
    """Return the ensemble of fitted temperatures; raises KeyError, TypeError, ValueError where they are none."""
    by_fold = {str(fold): float(entry["temperature"]) for fold, entry in dict(calibration["by_fold"]).items()}
    return FoldEnsemble(codes, float(calibration["temperature"]), by_fold)


def temperatures_of(logits: pd.DataFrame, ensemble: FoldEnsemble) -> np.ndarray:
    """Return the temperature of each row (n,): its fold's where the fold held the image out, otherwise that of all."""
    own = logits["fold"].astype(str).map(ensemble.by_fold)
    return np.where(logits["out_of_fold"], own, ensemble.temperature).astype(np.float64)


def mean_probabilities(logits: pd.DataFrame, codes: list[str], temperatures: np.ndarray) -> pd.DataFrame:
    """Return image_id, source and one column per class: the mean softmax over the rows (folds, views) of each image.

    The logits of a row are divided by its temperature, (n,).
    """
    scaled = logits[codes].to_numpy(np.float64) / temperatures[:, None]
    frame = pd.DataFrame(softmax(scaled, axis=1), columns=codes)
    frame.insert(0, "image_id", logits["image_id"].to_numpy(object))
    frame.insert(1, "out_of_fold", logits["out_of_fold"].to_numpy())
    means = frame.groupby("image_id", sort=False).mean().reset_index()
    # A mean of rows that sum to one sums to one up to rounding; the division makes it exact enough to test.
    means[codes] = means[codes].div(means[codes].sum(axis=1), axis=0)
    source = np.where(means.pop("out_of_fold") > 0.5, "out_of_fold", "fold_mean")
    means.insert(1, "source", source)
    return means


def apply(logits: pd.DataFrame, ensemble: FoldEnsemble, ids: pd.Series) -> pd.DataFrame:
    """Return the probabilities (table PROBABILITIES) of the images `ids`, in their order.

    Parameters: logits, the rows of all folds. Raises InputError where they are not of exactly these images.
    """
    means = mean_probabilities(logits, ensemble.codes, temperatures_of(logits, ensemble))
    require_same_keys(means["image_id"], ids, "logits of all folds")
    return ids.to_frame("image_id").merge(means, on="image_id", validate="one_to_one")


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


def true_numbers(images: pd.DataFrame, labels: pd.DataFrame, codes: list[str]) -> pd.Series:
    """Return the class number of each trainable image, by image_id."""
    rows = trainable(images, labels)
    numbers = rows["label"].map(class_numbers(codes))
    return pd.Series(numbers.to_numpy(np.int64), index=rows["image_id"])


def combine_folds(
    *, images: Path, labels: Path, classes: Path, folds: Path, logits: list[Path], probabilities: Path,
    calibration: Path, settings: CombineFolds,
) -> None:  # fmt: skip
    """Average softmax over views and folds, calibrated on out-of-fold images; write one row per decodable image."""
    codes = class_codes(CLASSES.read(classes))
    image_rows = IMAGES.read(images)
    rows = decodable(image_rows)
    frame = pd.concat([LOGITS.read(path) for path in logits], ignore_index=True)
    check_rows(frame, FOLDS.read(folds), len(logits))
    numbers = true_numbers(image_rows, LABELS.read(labels), codes)
    found = calibrate(frame[frame["out_of_fold"]], numbers, codes, settings.temperature == "fitted")
    log.info("temperature %.3f (%s), from %d images", found["temperature"], settings.temperature, found["images"])
    PROBABILITIES.write(apply(frame, ensemble_of(codes, found), rows["image_id"]), probabilities)
    write_json(found, calibration)


if __name__ == "__main__":
    run(combine_folds)
