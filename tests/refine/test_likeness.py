from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from buffycoat.refine.fitting import fit_likeness
from buffycoat.refine.gates import log_odds, stacked
from buffycoat.refine.rules import LIKENESS_FEATURES

WIDTH = len(LIKENESS_FEATURES)


def drawn(number: int, shift: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Two groups of normal cells whose means differ by `shift` in the first two features."""
    rng = np.random.default_rng(seed)
    rescued = np.arange(2 * number) < number
    values = rng.normal(size=(2 * number, WIDTH))
    values[rescued, :2] += shift
    return values, rescued


def as_features(values: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(LIKENESS_FEATURES, values.T, strict=True))


def test_it_is_the_log_odds_of_two_normal_distributions() -> None:
    values, rescued = drawn(20_000, 1.5)
    found = log_odds(as_features(values[:50]), fit_likeness(values, rescued))
    shift = np.append([1.5, 1.5], np.zeros(WIDTH - 2))
    expected = multivariate_normal.logpdf(values[:50], shift) - multivariate_normal.logpdf(values[:50], 0 * shift)
    assert found == pytest.approx(expected, abs=0.25)


def test_how_common_a_class_is_does_not_matter() -> None:
    values, rescued = drawn(5_000, 1.5)
    few = rescued & (np.arange(len(values)) >= 100)
    common, rare = fit_likeness(values, rescued), fit_likeness(values[~few], rescued[~few])
    assert (common.cells, rare.cells, rare.others) == (5_000, 100, 5_000)
    assert log_odds(as_features(values), rare).mean() == pytest.approx(0, abs=0.3)


def test_units_do_not_matter_and_gaps_stay_gaps() -> None:
    values, rescued = drawn(100, 1.0)
    units = np.geomspace(0.01, 1000, WIDTH)
    first = log_odds(as_features(values), fit_likeness(values, rescued))
    assert log_odds(as_features(values * units), fit_likeness(values * units, rescued)) == pytest.approx(first)
    values[3, 5] = np.nan
    found = log_odds(as_features(values), fit_likeness(values[~np.isnan(values).any(axis=1)], np.delete(rescued, 3)))
    assert np.flatnonzero(np.isnan(found)).tolist() == [3]


def test_features_of_one_value_say_nothing() -> None:
    values, rescued = drawn(50, 1.0)
    values[:, 4:] = 7.0
    fitted = fit_likeness(values, rescued)
    assert all(abs(fitted.weights[name]) < 1e-6 for name in LIKENESS_FEATURES[4:])
    assert np.isfinite(log_odds(as_features(values), fitted)).all()


def test_columns_are_in_the_stated_order() -> None:
    values, _ = drawn(3, 0.0)
    assert np.array_equal(stacked(as_features(values)), values)
