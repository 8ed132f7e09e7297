"""What the gates compare with, fitted on training cells: references of a rescued class and a discriminant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from buffycoat.refine.algorithm import Evidence, Labels, suppress
from buffycoat.refine.gates import Flags, Values, distances
from buffycoat.refine.rules import BOX_FEATURES, DISTANCE_FEATURES, LIKENESS_FEATURES, Likeness, Reference
from buffycoat.refine.settings import Rule

Folds = npt.NDArray[np.int64]
MIN_CELLS = 5
"""Fewest training cells of the rescued class that anything is fitted on; ours."""
OWN_CELLS = 40
"""From so many cells on a covariance is the class's own; with n fewer, n / OWN_CELLS of it is, and the rest is the
pooled within-class covariance of all classes; ours, about two cells per entry of a covariance of six features."""
DISTANCE_QUANTILE = 0.95
"""Gate `mahalanobis`: share of training cells of the rescued class, each measured from a reference fitted without its
fold, that lie within the largest distance; ours, the paper states none."""
BOX_QUANTILE, BOX_MARGIN = 0.99, 0.5
"""Gate `box`: central share of the training cells that each range holds, and by how many within-class standard
deviations it is widened, as a few cells do not show the whole range; ours."""


@dataclass(frozen=True)
class Training:
    """Training cells, all judged out of fold.

    The evidence of n cells, their true labels (n,), folds (n,), and the number of each cell's patient (n,); without
    patients every cell is one of its own.
    """

    evidence: Evidence
    labels: Labels
    folds: Folds
    patients: Folds | None = None

    def rows(self, chosen: Flags) -> Training:
        """Return some of the cells."""
        patients = None if self.patients is None else self.patients[chosen]
        return Training(self.evidence.rows(chosen), self.labels[chosen], self.folds[chosen], patients)

    def features(self, names: tuple[str, ...]) -> Values:
        """Return columns of the table of morphology, (n, number of names)."""
        return np.column_stack([self.evidence.features[name] for name in names])

    def complete(self) -> Flags:
        """Return which cells have every feature that a reference needs, (n,) bool."""
        return np.asarray(~np.isnan(self.features((*BOX_FEATURES, *DISTANCE_FEATURES))).any(axis=1))


def within_class(values: Values, labels: Labels) -> Values:
    """Return each row less the mean of its class, (n, k)."""
    centred = values.copy()
    for code in np.unique(labels):
        centred[labels == code] -= values[labels == code].mean(axis=0)
    return centred


def standard_deviations(centred: Values) -> Values:
    """Return the standard deviation of each column, kept above 0 for columns of one value."""
    return np.asarray(np.maximum(np.sqrt((centred**2).mean(axis=0)), 1e-9))


def shrunk_covariance(deviations: Values) -> Values:
    """Return the Ledoit-Wolf covariance (k, k) of rows (n, k) that are deviations from their mean, in standard units.

    Ledoit-Wolf pulls towards a multiple of the identity, so the columns must share one unit.
    Source: doi 10.1016/S0047-259X(03)00096-4
    """
    from sklearn.covariance import ledoit_wolf

    covariance, _ = ledoit_wolf(deviations, assume_centered=True)
    # A floor keeps it invertible where all deviations are 0.
    return np.asarray(covariance) + 1e-6 * np.eye(deviations.shape[1])


def mean_and_covariance(values: Values, pooled: Values) -> tuple[Values, Values]:
    """Return the mean (k,) and covariance (k, k) of standardised rows (n, k); few rows borrow from `pooled` (k, k)."""
    mean = values.mean(axis=0)
    own = shrunk_covariance(values - mean)
    share = min(1.0, len(values) / OWN_CELLS)
    return mean, share * own + (1 - share) * pooled


def largest_distance(
    values: Values, folds: Folds, pooled: Values
) -> tuple[float, Literal["cross_fitted", "chi_squared"]]:
    """Return the quantile of the distances of cells (n, k) from references fitted without their fold.

    With fewer than MIN_CELLS such distances it is the quantile of the chi distribution, which normal cells follow.
    """
    found: list[Values] = []
    for fold in np.unique(folds):
        held_out = folds == fold
        if (~held_out).sum() >= MIN_CELLS:
            mean, covariance = mean_and_covariance(values[~held_out], pooled)
            found.append(distances(values[held_out] - mean, covariance))
    measured = np.concatenate(found) if found else np.zeros(0)
    if len(measured) >= MIN_CELLS:
        return float(np.quantile(measured, DISTANCE_QUANTILE)), "cross_fitted"
    from scipy.stats import chi

    return float(chi.ppf(DISTANCE_QUANTILE, values.shape[1])), "chi_squared"


def fit_box(values: Values, scale: Values) -> dict[str, tuple[float, float]]:
    """Return the widened quantile range of each column of cells (n, 5), by the names of BOX_FEATURES."""
    tail = (1 - BOX_QUANTILE) / 2
    low, high = np.quantile(values, [tail, 1 - tail], axis=0)
    low, high = low - BOX_MARGIN * scale, high + BOX_MARGIN * scale
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(BOX_FEATURES)}


def reference_fitter(training: Training) -> Callable[[Flags, bool], Reference]:
    """Return a function that fits a reference on some of the (complete) cells; units come from all of them."""
    vectors, boxes = training.features(DISTANCE_FEATURES), training.features(BOX_FEATURES)
    centred = within_class(vectors, training.labels)
    scale = standard_deviations(centred)
    box_scale = standard_deviations(within_class(boxes, training.labels))
    pooled = shrunk_covariance(centred / scale)

    def fit(chosen: Flags, of_host: bool) -> Reference:
        values = vectors[chosen] / scale
        mean, covariance = mean_and_covariance(values, pooled)
        most, most_from = largest_distance(values, training.folds[chosen], pooled)
        return Reference(
            cells=int(chosen.sum()),
            cells_of="host" if of_host else "all_hosts",
            own_share=min(1.0, float(chosen.sum()) / OWN_CELLS),
            mean=dict(zip(DISTANCE_FEATURES, (mean * scale).tolist(), strict=True)),
            scale=dict(zip(DISTANCE_FEATURES, scale.tolist(), strict=True)),
            covariance=tuple(tuple(row) for row in covariance.tolist()),
            max_distance=most,
            max_distance_from=most_from,
            box=fit_box(boxes[chosen], box_scale),
        )

    return fit


def fit_references(training: Training, rule: Rule, suppressed: list[str]) -> dict[str, Reference] | None:
    """Return a reference per host, or None where the rescued class has fewer than MIN_CELLS measured cells.

    A host's reference is fitted on training cells of the rescued class that branch A, out of fold and with all of
    `suppressed` taken out, gives to that host; where they are too few, on all cells of the rescued class.
    """
    cells = training.rows(training.complete())
    true = cells.labels == rule.rescued
    if true.sum() < MIN_CELLS:
        return None
    y0, _ = suppress(cells.evidence, suppressed)
    fit = reference_fitter(cells)
    references = {}
    for host in rule.hides_in:
        hiding = true & (y0 == host)
        enough = bool(hiding.sum() >= MIN_CELLS)
        references[host] = fit(hiding if enough else true, enough)
    return references


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
