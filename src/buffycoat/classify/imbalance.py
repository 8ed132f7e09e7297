"""How much each class counts: in the sampler, in the loss, and in both together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


def rarity(counts: Counts, kind: str) -> Values:
    """Return a factor per class that grows as it gets rarer, and 0 for a class without images.

    `none` 1; `log` 1 / (ln(1 + n) + 1e-5) (arXiv 2603.16249); `sqrt` n^-1/2; `balanced` 1 / n.
    """
    n = np.maximum(counts, 1).astype(np.float64)
    factors = {"none": np.ones_like(n), "log": 1 / (np.log1p(n) + 1e-5), "sqrt": n**-0.5, "balanced": 1 / n}[kind]
    return np.asarray(np.where(counts > 0, factors, 0.0))


def class_weights(counts: Counts, kind: str) -> Values:
    """Return the loss weight w_c = K a_c / sum of a per class, a the rarity: mean one over the K that have images."""
    factors = rarity(counts, kind)
    return np.asarray(factors * (counts > 0).sum() / factors.sum())


def effective_number_weights(counts: Counts, beta: float) -> Values:
    """Return weights by 1 / E_n, E_n = (1 - beta^n) / (1 - beta), mean one over present classes (arXiv 1901.05555)."""
    effective = (1 - beta ** counts.astype(np.float64)) / (1 - beta)
    factors = np.divide(1.0, effective, out=np.zeros_like(effective), where=counts > 0)
    return np.asarray(factors * (counts > 0).sum() / factors.sum())


def ldam_margins(counts: Counts, largest: float) -> Values:
    """Return the margin per class, C n^-1/4 with C such that the rarest has `largest` (arXiv 1906.07413, eq. 13)."""
    margins = np.where(counts > 0, np.maximum(counts, 1).astype(np.float64) ** -0.25, 0.0)
    return np.asarray(margins * (largest / margins.max()))


def log_frequencies(counts: Counts) -> Values:
    """Return ln of each class's share of the images; a class without images gets that of the most frequent one.

    What is subtracted from logits lifts rare classes; a class that was never learned must not be lifted.
    """
    share = np.maximum(counts, 1) / max(int(counts.sum()), 1)
    return np.log(np.where(counts > 0, share, share.max()))


def effective_share(counts: Counts, sampler: Values, weights: Values) -> Values:
    """Return each class's share of the training signal, draws times loss weight, summing to one."""
    signal = counts * sampler * weights
    return np.asarray(signal / signal.sum())
