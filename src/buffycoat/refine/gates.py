"""The checks that a candidate has to pass, on arrays: one value, threshold and verdict per row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from buffycoat.refine.rules import BOX_FEATURES, DISTANCE_FEATURES, LIKENESS_FEATURES, Likeness, Reference

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Check:
    """One check of n rows. A gap (NaN) in `value` or in a threshold never passes.

    `low` and `high`, (n,) each or None where the check has no such end; `ends`, whether the ends themselves pass.
    """

    name: str
    value: Values
    low: Values | None = None
    high: Values | None = None
    ends: bool = False

    def passed(self) -> Flags:
        """Return which rows pass, (n,) bool."""
        result = ~np.isnan(self.value)
        if self.low is not None:
            result &= (self.value >= self.low) if self.ends else (self.value > self.low)
        if self.high is not None:
            result &= (self.value <= self.high) if self.ends else (self.value < self.high)
        return result

    def at(self, row: int) -> Check:
        """Return the check of one row, of length 1."""
        pick = slice(row, row + 1)
        low = None if self.low is None else self.low[pick]
        high = None if self.high is None else self.high[pick]
        return Check(self.name, self.value[pick], low, high, self.ends)


def _all(level: float, like: Values) -> Values:
    return np.full(len(like), level, np.float64)


def boosting(p_rescued: Values, q: Values, beta: float) -> Check:
    """Phase 1: beta * p > q."""
    return Check("boosted_probability", beta * p_rescued, low=q)


def verification(s_rescued: Values, tau: float) -> Check:
    """Phase 2: branch B's probability > tau; without an embedding the value is a gap and fails."""
    return Check("embedding_probability", s_rescued, low=_all(tau, s_rescued))


def host_probability(q: Values, most: float) -> Check:
    """Phase 3: q < most; at most = 1 every q passes, also 1."""
    return Check("host_probability", q, high=_all(most, q), ends=most == 1)


def spikiness_gate(spikiness: Values, least: float) -> Check:
    """Phase 3: S > least."""
    return Check("spikiness", spikiness, low=_all(least, spikiness))


def box_gate(features: dict[str, Values], host: npt.NDArray[np.str_], references: dict[str, Reference]) -> list[Check]:
    """Phase 3: each feature within the range of the reference of the row's host, ends included."""
    checks = []
    for name in BOX_FEATURES:
        low, high = np.full(len(host), np.nan), np.full(len(host), np.nan)
        for code, reference in references.items():
            low[host == code], high[host == code] = reference.box[name]
        checks.append(Check(name, features[name], low=low, high=high, ends=True))
    return checks


def mahalanobis_gate(
    features: dict[str, Values], host: npt.NDArray[np.str_], references: dict[str, Reference]
) -> Check:
    """Phase 3: distance from the reference of the row's host <= its largest distance."""
    vectors = np.column_stack([features[name] for name in DISTANCE_FEATURES])
    value, most = np.full(len(host), np.nan), np.full(len(host), np.nan)
    for code, reference in references.items():
        rows = host == code
        value[rows], most[rows] = mahalanobis(vectors[rows], reference), reference.max_distance
    return Check("mahalanobis", value, high=most, ends=True)


def likeness_gate(log_odds: Values, least: float) -> Check:
    """Phase 3: the morphology's log-odds of the rescued class against its hosts >= least."""
    return Check("likeness", log_odds, low=_all(least, log_odds), ends=True)


def stacked(features: dict[str, Values]) -> Values:
    """Return the columns of LIKENESS_FEATURES, (n, 13)."""
    return np.column_stack([features[name] for name in LIKENESS_FEATURES])


def log_odds(features: dict[str, Values], fitted: Likeness) -> Values:
    """Return the natural logarithm of how many times likelier each cell's morphology is in the rescued class, (n,).

    Under normal distributions of one covariance; a cell with a gap gives a gap.
    """
    columns = [np.array(list(part.values())) for part in (fitted.mean, fitted.scale, fitted.weights)]
    mean, scale, weights = columns
    found: Values = (stacked(features) - mean) / scale @ weights + fitted.offset
    return found


def mahalanobis(vectors: Values, reference: Reference) -> Values:
    """Return sqrt((v - mean)' covariance^-1 (v - mean)) of each row, (n,); a row with a gap gives a gap.

    Parameters: vectors (n, 6) in the order of DISTANCE_FEATURES. Source: arXiv 2603.16249, Algorithm 1, phase 3.
    """
    mean = np.array([reference.mean[name] for name in DISTANCE_FEATURES])
    scale = np.array([reference.scale[name] for name in DISTANCE_FEATURES])
    return distances((vectors - mean) / scale, np.array(reference.covariance))


def distances(deviations: Values, covariance: Values) -> Values:
    """Return sqrt(d' covariance^-1 d) of each row d of `deviations` (n, k), as (n,)."""
    whitened = np.linalg.solve(np.linalg.cholesky(covariance), deviations.T)
    return np.asarray(np.sqrt((whitened**2).sum(axis=0)))
