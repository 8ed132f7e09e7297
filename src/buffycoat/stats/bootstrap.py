"""Intervals by resampling whole patients, the same resamples for everything that is compared."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from buffycoat.data.random import stream
from buffycoat.stats.scores import OVERALL, Values, class_scores, overall_scores

Labels = npt.NDArray[np.int64]
CONFIDENCE = 0.95
"""Coverage of intervals, as is usual."""


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
