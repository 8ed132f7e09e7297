"""Scores of confusion matrices (..., K, K), rows true, columns predicted, any number at once; calibration error.

Definitions are scikit-learn's with an explicit list of classes and zero_division=0: a class of the data set that is
absent from a part counts 0 in the macro averages, and the report names it. Balanced accuracy is the mean recall over
the classes that are there, as in scikit-learn.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

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
