"""Scores of several ways to label the same images: intervals and differences from the same resamples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from buffycoat.data.labels import class_numbers
from buffycoat.report.parts import clusters_of
from buffycoat.report.settings import CompareRecipes
from buffycoat.stats.bootstrap import class_intervals, cluster_matrices, interval, resample, resampled_scores
from buffycoat.stats.scores import Values, class_scores, confusion, overall_scores

COMPARED_SCORES = ("accuracy", "balanced_accuracy", "macro_f1")


@dataclass(frozen=True)
class Way:
    """A way to label images: `numbers` holds the class number by image_id."""

    recipe: str
    variant: str
    """'one_view' or 'all_views' of a recipe; 'restored': the main one, on cells restored as `recipe` says;
    'after': made of the main recipe's predictions."""
    numbers: pd.Series


def best_classes(table: pd.DataFrame, codes: list[str]) -> pd.Series:
    """Return the number of the greatest class column by image_id."""
    return pd.Series(table[codes].to_numpy().argmax(axis=1), index=table["image_id"])


def one_view_of_each_fold(logits: pd.DataFrame, codes: list[str]) -> dict[int, pd.Series]:
    """Return, by fold, the class that the fold's model alone gives to each image it may judge, as it is (view 0)."""
    plain = logits[logits["view"] == 0]
    return {int(str(fold)): best_classes(rows, codes) for fold, rows in plain.groupby("fold")}


def one_view_of_all_folds(logits: pd.DataFrame, codes: list[str], temperature: float) -> pd.Series:
    """Return the class by image_id from one view: of the fold that held an image out, or of the mean over folds."""
    plain = logits[logits["view"] == 0]
    chances = softmax(plain[codes].to_numpy(np.float64) / temperature, axis=1)
    frame = pd.DataFrame(chances, columns=codes).assign(image_id=plain["image_id"].to_numpy(object))
    return best_classes(frame.groupby("image_id", sort=False)[codes].mean().reset_index(), codes)


def score_ways(
    part: str, rows: pd.DataFrame, ways: list[Way], codes: list[str], seed: int, settings: CompareRecipes
) -> list[dict[str, Any]]:
    """Return the scores of each way with intervals, and its differences from the main one.

    `rows` (columns image_id, group, true) are the images of the part; the main way is the first with all views.
    """
    true = numbers_of(rows["true"], codes)
    clusters, count = clusters_of(rows)[0], len(codes)
    present = np.bincount(true, minlength=count) > 0
    guesses = [way.numbers.loc[rows["image_id"]].to_numpy(np.int64) for way in ways]
    # Named like the resamples of score_labels: the same draws, so the same intervals as in the report.
    drawn = resample(
        [cluster_matrices(true, guessed, clusters, count) for guessed in guesses], settings.resamples, seed, part
    )
    main = next(place for place, way in enumerate(ways) if way.variant == "all_views")
    base, base_drawn = overall_scores(confusion(true, guesses[main], count)), resampled_scores(drawn[main], present)
    found = []
    for way, guessed, matrices in zip(ways, guesses, drawn, strict=True):
        matrix, about = confusion(true, guessed, count), {"recipe": way.recipe, "variant": way.variant, "part": part}
        values, resampled = overall_scores(matrix), resampled_scores(matrices, present)
        for name in COMPARED_SCORES:
            entry = _entry(about, "all", name, float(values[name]), len(rows))
            entry |= _bounds("", resampled[name], settings.confidence)
            entry["difference"] = float(values[name] - base[name])
            entry |= _bounds("difference_", resampled[name] - base_drawn[name], settings.confidence)
            found.append(entry)
        found += _class_rows(about, matrix, matrices, codes, settings.confidence)
    return found


def score_single_folds(
    part: str, recipe: str, rows: pd.DataFrame, of_fold: dict[int, pd.Series], codes: list[str]
) -> list[dict[str, Any]]:
    """Return mean and SD over folds of the overall scores of each fold's model by itself, as Table 1 of the paper.

    Out of fold, a model is judged on the images that its fold held out (column `fold`); otherwise on all rows.
    """
    values: dict[str, list[float]] = {name: [] for name in COMPARED_SCORES}
    for fold, numbers in of_fold.items():
        judged = rows[rows["fold"] == fold] if part == "out_of_fold" else rows
        guessed = numbers.loc[judged["image_id"]].to_numpy(np.int64)
        scores = overall_scores(confusion(numbers_of(judged["true"], codes), guessed, len(codes)))
        for name in COMPARED_SCORES:
            values[name].append(float(scores[name]))
    about = {"recipe": recipe, "variant": "single_folds", "part": part}
    return [
        _entry(about, "all", name, float(np.mean(found)), len(rows))
        | {"sd": float(np.std(found, ddof=1)) if len(found) > 1 else None}
        for name, found in values.items()
    ]


def numbers_of(labels: pd.Series, codes: list[str]) -> np.ndarray:
    """Return class numbers (n,) int64 of class codes."""
    return labels.map(class_numbers(codes)).to_numpy(np.int64)


def _class_rows(
    about: dict[str, str], matrix: Values, matrices: Values, codes: list[str], confidence: float
) -> list[dict[str, Any]]:
    scores, bounds = class_scores(matrix)["f1"], class_intervals(matrices, confidence)["f1"]
    support = matrix.sum(axis=1)
    return [
        _entry(about, code, "f1", float(scores[k]), int(support[k])) | {"low": bounds[k][0], "high": bounds[k][1]}
        for k, code in enumerate(codes)
    ]


def _entry(about: dict[str, str], code: str, metric: str, value: float, support: int) -> dict[str, Any]:
    gaps = dict.fromkeys(("sd", "low", "high", "difference", "difference_low", "difference_high"))
    return {**about, "class": code, "metric": metric, "value": value, **gaps, "support": support}


def _bounds(prefix: str, values: Values, confidence: float) -> dict[str, float]:
    low, high = interval(values, confidence)
    return {f"{prefix}low": low, f"{prefix}high": high}
