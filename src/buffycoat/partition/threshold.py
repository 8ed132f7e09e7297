"""The score from which a crop counts as degraded, fitted to the scores of training rows, many of them degraded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

Scores = npt.NDArray[np.float64]

BIN = 0.02
"""Width of the bins in which logarithms of scores are counted."""
LEAST_SHARE = 0.2
"""A peak that holds fewer of the rows is not taken for the clean ones."""
LEAST_SPREAD = 0.05
"""Least robust standard deviation of the logarithms: scores of one value have none."""
SMALLEST = 1e-3
"""Scores below count as this: a logarithm needs more than nothing."""


def fit_threshold(scores: Scores, spread: float, largest: bool = False) -> float:
    """Return centre * exp(spread * s) of the clean crops' scores, s a robust standard deviation of their logarithms.

    Degradation adds to the score, so the clean crops are the lowest peak of the logarithms' histogram that holds a
    fifth of the rows; there may be more degraded crops than clean ones. Their centre is the peak's place. Above it
    lie degraded crops too, below it none, so s is taken from the scores below, mirrored. Rows of one peak are all
    taken for clean, even if all are degraded: nothing in the scores tells. With `largest`, the peak with most rows is
    taken instead of the lowest, for rows some of which have too low a score.

    Parameters: scores (n,) >= 0, n >= 1. Returns a value in the scores' unit.
    """
    logs = np.log(np.maximum(scores, SMALLEST))
    centre, border, _ = clean_peak(logs, largest)
    below = centre - logs[(logs <= centre) & (logs >= border)]
    s = 1.4826 * float(np.median(below)) if below.size else 0.0
    return float(np.exp(centre + spread * max(s, LEAST_SPREAD)))


def clean_peak(logs: Scores, largest: bool = False) -> tuple[float, float, float]:
    """Return place, lower and upper border of the lowest peak that holds LEAST_SHARE of the values, or of the largest.

    Peaks count as two where the density between them falls to half of the lower one. Where no peak holds that share,
    the largest is taken.
    """
    density, grid = _density(logs)
    peaks, _ = find_peaks(np.log(density + 1e-9 * density.max()), prominence=np.log(2))
    valleys = [low + int(np.argmin(density[low:high])) for low, high in zip(peaks[:-1], peaks[1:], strict=True)]
    borders = np.concatenate([[grid[0]], grid[valleys], [grid[-1]]])
    shares = np.histogram(logs, borders)[0] / logs.size
    large = np.flatnonzero(shares >= LEAST_SHARE)
    chosen = int(large[0]) if large.size and not largest else int(np.argmax(shares))
    return float(grid[peaks[chosen]]), float(borders[chosen]), float(borders[chosen + 1])


def _density(logs: Scores) -> tuple[Scores, Scores]:
    """Return a smooth histogram of the values and the middles of its bins; it is zero at both ends."""
    # A tenth for a thousand rows, more for fewer, as kernel estimates widen.
    width = 0.1 * (1000 / min(1000, logs.size)) ** 0.2
    margin = 5 * width
    bins = int(np.ceil((np.ptp(logs) + 2 * margin) / BIN))
    edges = logs.min() - margin + BIN * np.arange(bins + 1)
    counts = np.histogram(logs, edges)[0].astype(np.float64)
    return gaussian_filter1d(counts, width / BIN, mode="constant"), (edges[:-1] + edges[1:]) / 2


def histogram_of(scores: Scores, bins: int = 60, logarithmic: bool = True) -> dict[str, list[float] | list[int]]:
    """Return `edges` (bins + 1) and `counts` (bins) of the scores, the bins being equally wide or so in logarithms."""
    values = np.log10(np.maximum(scores, 1e-2)) if logarithmic else scores
    counts, edges = np.histogram(values, bins)
    return {
        "edges": [float(10**edge if logarithmic else edge) for edge in edges],
        "counts": [int(count) for count in counts],
    }
