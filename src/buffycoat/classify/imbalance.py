"""How much each class counts: in the sampler, in the loss, and in both together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


def log_factor(counts: npt.NDArray[np.int64]) -> Values:
    """Return a_c = 1 / (ln(1 + n_c) + 1e-5) per class, and 0 for a class without images (arXiv 2603.16249)."""
    factors = 1 / (np.log1p(counts.astype(np.float64)) + 1e-5)
    return np.asarray(np.where(counts > 0, factors, 0.0))


def class_weights(counts: npt.NDArray[np.int64], kind: str) -> Values:
    """Return the loss weight w_c per class; `log`: K a_c / sum of a; mean one over the K classes that have images."""
    present = counts > 0
    if kind == "none":
        return present.astype(np.float64)
    factors = log_factor(counts)
    return np.asarray(factors * present.sum() / factors.sum())


def draw_factor(counts: npt.NDArray[np.int64], kind: str) -> Values:
    """Return how often an image of each class is drawn, up to a constant; 0 for a class without images."""
    n = np.maximum(counts, 1).astype(np.float64)
    factors = {"none": np.ones_like(n), "log": log_factor(counts), "sqrt": n**-0.5, "balanced": 1 / n}[kind]
    return np.asarray(np.where(counts > 0, factors, 0.0))


def effective_share(counts: npt.NDArray[np.int64], sampler: str, weights: str) -> Values:
    """Return each class's share of the training signal: draws times loss weight, summing to one."""
    signal = counts * draw_factor(counts, sampler) * class_weights(counts, weights)
    return np.asarray(signal / signal.sum())
