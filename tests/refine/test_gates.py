from __future__ import annotations

import numpy as np
import pytest

from buffycoat.refine.gates import Check, boosting, distances, host_probability, mahalanobis
from tests.refine.cases import reference

GAP = np.nan


def test_ends_pass_only_where_they_belong() -> None:
    value, low, high = np.array([1.0, 2.0, 3.0, GAP]), np.full(4, 1.0), np.full(4, 3.0)
    assert Check("x", value, low=low).passed().tolist() == [False, True, True, False]
    assert Check("x", value, high=high).passed().tolist() == [True, True, False, False]
    assert Check("x", value, low=low, high=high, ends=True).passed().tolist() == [True, True, True, False]
    assert Check("x", value, low=np.full(4, GAP)).passed().tolist() == [False] * 4
    assert Check("x", value, low=low).at(1).passed().tolist() == [True]


def test_boosting_grows_with_beta() -> None:
    rng = np.random.default_rng(2)
    p, q = rng.uniform(0, 0.01, 500), rng.uniform(0, 1, 500)
    counts = [int(boosting(p, q, beta).passed().sum()) for beta in (1, 10, 100, 1000)]
    assert counts == sorted(counts) and counts[0] < counts[-1]


def test_a_certain_host_passes_at_one_only() -> None:
    assert host_probability(np.array([1.0]), 1.0).passed()[0]
    assert not host_probability(np.array([1.0]), 0.99).passed()[0]


def test_distances_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(3)
    factor = rng.normal(size=(6, 6))
    covariance, rows = factor @ factor.T + np.eye(6), rng.normal(size=(20, 6))
    expected = [np.sqrt(row @ np.linalg.inv(covariance) @ row) for row in rows]
    assert distances(rows, covariance) == pytest.approx(np.array(expected))
    assert distances(np.zeros((0, 6)), covariance).shape == (0,)


def test_distances_do_not_depend_on_units() -> None:
    rng = np.random.default_rng(4)
    rows, units = rng.normal(size=(9, 6)), np.array([1e4, 100, 1, 0.1, 0.3, 150])
    names = list(reference().mean)
    scaled = reference(scale=dict(zip(names, units, strict=True)))
    assert mahalanobis(rows * units, scaled) == pytest.approx(mahalanobis(rows, reference()))
    assert np.isnan(mahalanobis(np.full((1, 6), GAP), reference())).all()
