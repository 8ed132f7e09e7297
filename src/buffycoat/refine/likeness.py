"""How much more a cell's morphology is like a rescued class than like those that it hides in."""

from __future__ import annotations

import numpy as np

from buffycoat.refine.gates import Flags, Values
from buffycoat.refine.rulebook import LIKENESS_FEATURES, Likeness


def stacked(features: dict[str, Values]) -> Values:
    """Return the columns of LIKENESS_FEATURES, (n, 13)."""
    return np.column_stack([features[name] for name in LIKENESS_FEATURES])


def fit_likeness(values: Values, rescued: Flags) -> Likeness:
    """Return the linear discriminant of the rows (n, 13) without gaps: those `rescued` (n,) against the others.

    Means per group, one shrunk covariance for both (scikit-learn's, by Ledoit and Wolf), equal priors: how common the
    class is stays the business of the branches. At least one row of each group is needed.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    mean, scale = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-9)
    discriminant = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[0.5, 0.5])
    discriminant.fit((values - mean) / scale, rescued)
    return Likeness(
        cells=int(rescued.sum()),
        others=int((~rescued).sum()),
        mean=dict(zip(LIKENESS_FEATURES, mean.tolist(), strict=True)),
        scale=dict(zip(LIKENESS_FEATURES, scale.tolist(), strict=True)),
        weights=dict(zip(LIKENESS_FEATURES, discriminant.coef_[0].tolist(), strict=True)),
        offset=float(discriminant.intercept_[0]),
        least=0.0,
    )


def log_odds(features: dict[str, Values], fitted: Likeness) -> Values:
    """Return the natural logarithm of how many times likelier each cell's morphology is in the rescued class, (n,).

    Under normal distributions of one covariance; a cell with a gap gives a gap.
    """
    columns = [np.array(list(part.values())) for part in (fitted.mean, fitted.scale, fitted.weights)]
    mean, scale, weights = columns
    found: Values = (stacked(features) - mean) / scale @ weights + fitted.offset
    return found
