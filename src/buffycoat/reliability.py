"""How far confidence and accuracy lie apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


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
