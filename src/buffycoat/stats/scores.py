"""Scores of confusion matrices (..., K, K), rows true, columns predicted; calibration errors; intervals.

Definitions are scikit-learn's with an explicit list of classes and zero_division=0: a class of the data set that is
absent from a part counts 0 in the macro averages, and the report names it. Balanced accuracy is the mean recall over
the classes that are there, as in scikit-learn. Intervals are by resampling whole patients, the same resamples for
everything that is compared.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from buffycoat.data.random import stream

Values = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
CONFIDENCE = 0.95
"""Coverage of intervals, as is usual."""

PER_CLASS = ("precision", "recall", "f1", "specificity")
COMPARED_SCORES = ("accuracy", "balanced_accuracy", "macro_f1")
"""Overall scores that recipes, restorations and degradations are compared by."""
OVERALL = ("macro_f1", "balanced_accuracy", "macro_precision", "macro_specificity", "accuracy")
DEFINITIONS = {
    "macro_f1": "macro-F1: mean F1 over all classes of the data set; a class absent from a part counts 0",
    "balanced_accuracy": "balanced accuracy: mean recall over the classes that the part holds",
    "macro_precision": "macro precision: mean precision over all classes; a class never predicted counts 0",
    "macro_specificity": "macro specificity: mean, over all classes, of the share of others' images not taken for it",
    "accuracy": "accuracy: share of images whose label is right",
}


def confusion(true: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: int) -> Values:
    """Return the confusion matrix (K, K) of class numbers (n,)."""
    cells = np.bincount(true * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.float64)


def _ratio(above: Values, below: Values) -> Values:
    """Return above / below, and 0 where nothing is below."""
    result: Values = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return result


def class_scores(matrices: Values) -> dict[str, Values]:
    """Return each of PER_CLASS, (..., K), in 0..1."""
    hit = np.diagonal(matrices, axis1=-2, axis2=-1)
    support, guessed = matrices.sum(axis=-1), matrices.sum(axis=-2)
    total = matrices.sum(axis=(-2, -1))[..., None]
    negatives = total - support
    return {
        "precision": _ratio(hit, guessed),
        "recall": _ratio(hit, support),
        "f1": _ratio(2 * hit, support + guessed),
        "specificity": _ratio(negatives - (guessed - hit), negatives),
    }


def overall_scores(matrices: Values, counted: npt.NDArray[np.bool_] | None = None) -> dict[str, Values]:
    """Return each of OVERALL, (...), in 0..1.

    `counted` (..., K) says which classes the macro averages are over; by default all.
    """
    scores = class_scores(matrices)
    counted = np.ones(matrices.shape[:-1], bool) if counted is None else counted
    number = np.maximum(counted.sum(axis=-1), 1)

    def macro(name: str) -> Values:
        mean: Values = np.where(counted, scores[name], 0).sum(axis=-1) / number
        return mean

    present = matrices.sum(axis=-1) > 0
    recalls = np.where(present, scores["recall"], 0).sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)
    hit = np.trace(matrices, axis1=-2, axis2=-1)
    return {
        "macro_f1": macro("f1"),
        "balanced_accuracy": recalls,
        "macro_precision": macro("precision"),
        "macro_specificity": macro("specificity"),
        "accuracy": _ratio(np.asarray(hit), np.asarray(matrices.sum(axis=(-2, -1)))),
    }


def calibration_error(
    probabilities: npt.NDArray[np.float64], true: npt.NDArray[np.int64], bins: int
) -> tuple[float, list[list[float]]]:
    """Return the expected calibration error and, per bin that holds images, [mean confidence, accuracy, images].

    `probabilities` (n, K) sum to one per row; confidence is the largest; bins have equal width. arXiv 1706.04599.
    """
    confidence, guessed = probabilities.max(axis=1), probabilities.argmax(axis=1)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = []
    for number in range(bins):
        inside = place == number
        if inside.any():
            right = float((guessed[inside] == true[inside]).mean())
            rows.append([float(confidence[inside].mean()), right, float(inside.sum())])
    error = sum(n * abs(c - a) for c, a, n in rows) / max(len(true), 1)
    return float(error), rows


def cluster_matrices(true: Labels, predicted: Labels, clusters: Labels, classes: int) -> Values:
    """Return a confusion matrix per cluster, (clusters, K * K); `clusters` (n,) are numbers from 0."""
    count = int(clusters.max()) + 1 if len(clusters) else 0
    flat = (clusters * classes + true) * classes + predicted
    return np.bincount(flat, minlength=count * classes**2).reshape(count, classes**2).astype(np.float64)


def resample(per_cluster: list[Values], resamples: int, seed: int, name: str) -> list[Values]:
    """Return, for each of several sets of matrices over the same clusters, (resamples, K, K) sums of drawn clusters.

    Clusters are drawn with replacement, as many as there are; all sets share each draw, so differences are paired.
    """
    rng = stream(seed, "bootstrap", name)
    count, size = per_cluster[0].shape
    classes = round(size**0.5)
    sums: list[list[Values]] = [[] for _ in per_cluster]
    # In blocks: a weight per resample and cluster would not fit in memory for large sets.
    for start in range(0, resamples, 100):
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=min(100, resamples - start))
        for place, matrices in enumerate(per_cluster):
            sums[place].append((drawn.astype(np.float64) @ matrices).reshape(-1, classes, classes))
    return [np.concatenate(parts) for parts in sums]


def interval(values: Values, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the percentile interval of resampled values (resamples,)."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def resampled_scores(matrices: Values, present: npt.NDArray[np.bool_]) -> dict[str, Values]:
    """Return the overall scores of resampled matrices (resamples, K, K).

    A class that the part holds (`present`, (K,)) but a resample happens to miss is left out of that resample's mean: it
    was not drawn, not misjudged. A class that the part itself lacks counts 0, as in the score itself.
    """
    missed = present & (matrices.sum(axis=-1) == 0)
    return overall_scores(matrices, ~missed)


def score_intervals(matrices: Values, present: npt.NDArray[np.bool_]) -> dict[str, tuple[float, float]]:
    """Return the interval of each overall score."""
    scores = resampled_scores(matrices, present)
    return {name: interval(scores[name]) for name in OVERALL}


def class_intervals(matrices: Values) -> dict[str, list[tuple[float, float]]]:
    """Return the interval of each per-class score, K of them; resamples without the class are left out."""
    drawn = matrices.sum(axis=-1) > 0
    found: dict[str, list[tuple[float, float]]] = {}
    for name, values in class_scores(matrices).items():
        found[name] = [
            interval(values[drawn[:, k], k]) if drawn[:, k].any() else (0.0, 0.0) for k in range(values.shape[1])
        ]
    return found
