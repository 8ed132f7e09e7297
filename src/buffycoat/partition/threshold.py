"""The noise score from which a crop counts as noisy, fitted to the scores of training rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]


def fit_threshold(scores: Scores, spread: float) -> float:
    """Return median * exp(spread * s) of the cleaner half of the scores, s a robust standard deviation of logarithms.

    Clean crops of one microscope have noise scores that are close to log-normal, whatever the share of noisy ones (as
    long as it is under half), so their centre and spread are read off the lower half: the centre is the mode of the
    histogram of logarithms (half-sample mode), the spread that of the scores below it, mirrored.

    Parameters: scores (n,), grey levels, n >= 1. Returns grey levels.
    """
    logs = np.sort(np.log(np.maximum(scores, 1e-3)))
    centre = _half_sample_mode(logs)
    below = centre - logs[logs <= centre]
    s = 1.4826 * float(np.median(below)) if below.size else 0.0
    # Scores of one value have no spread; a fifth is the least that real microscopes show.
    return float(np.exp(centre + spread * max(s, 0.05)))


def _half_sample_mode(ordered: Scores) -> float:
    """Return the mode of sorted values: again and again the half of them that lies closest together.

    It stops at a tenth of the values: going on to the last three would only follow chance.
    """
    values = ordered
    while len(values) > max(3, len(ordered) // 10):
        half = (len(values) + 1) // 2
        widths = values[half - 1 :] - values[: len(values) - half + 1]
        start = int(np.argmin(widths))
        values = values[start : start + half]
    return float(values.mean())


def histogram_of(scores: Scores, bins: int = 60) -> tuple[list[float], list[int]]:
    """Return the edges (bins + 1) and counts (bins) of the scores, on a logarithmic axis."""
    logs = np.log10(np.maximum(scores, 1e-2))
    counts, edges = np.histogram(logs, bins)
    return [float(10**edge) for edge in edges], [int(count) for count in counts]
