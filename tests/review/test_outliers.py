"""Energy and distance: closed forms, other libraries, planted outliers, and what a fold may not see of itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffycoat.review.outliers import cross_fitted_distance as distance_by
from buffycoat.review.outliers import energy_of, fit_classes, models_without, share_below, sure_above


def clouds(seed: int = 0, rows: int = 300, dimensions: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three classes around three far points, with one covariance, in five folds."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(rows) % 3
    spread = np.diag(np.linspace(0.5, 2.0, dimensions))
    vectors = 10 * np.eye(dimensions)[numbers] + rng.standard_normal((rows, dimensions)) @ spread
    return vectors.astype(np.float32), numbers, np.arange(rows) // 3 % 5


def cross_fitted_distance(vectors: np.ndarray, numbers: np.ndarray, folds: np.ndarray, components: int) -> np.ndarray:
    """Return the distances by models fitted on the same rows."""
    return distance_by(models_without(vectors, numbers, folds, components), vectors, folds)


def test_energy_is_the_negative_log_of_summed_exponentials() -> None:
    logits = np.array([[0.0, 0.0], [3.0, 1.0], [800.0, -800.0]])
    assert energy_of(logits) == pytest.approx([-np.log(2), -np.log(np.exp(3) + np.exp(1)), -800])


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=9), st.floats(-5, 5))
def test_energy_falls_by_what_is_added_to_every_logit(row: list[float], shift: float) -> None:
    logits = np.array([row])
    moved = energy_of(logits + shift)
    assert moved == pytest.approx(energy_of(logits) - shift, abs=1e-9)
    assert energy_of(logits)[0] <= -max(row) + 1e-9, "never above the best class alone"


def test_share_below_counts_what_is_lower_and_keeps_gaps() -> None:
    reference = np.array([1.0, 2.0, 2.0, np.nan, 4.0])
    shares = share_below(np.array([0.0, 2.0, 3.0, 9.0, np.nan]), reference)
    assert shares[:4] == pytest.approx([0, 0.25, 0.75, 1]) and np.isnan(shares[4])
    assert np.isnan(share_below(np.array([1.0]), np.array([np.nan]))).all()


def test_the_distance_is_mahalanobis_to_the_nearest_class() -> None:
    vectors, numbers, _ = clouds(rows=60_000, dimensions=3)
    model = fit_classes(vectors, numbers, 3)
    assert model is not None
    precision = np.diag(np.linspace(0.5, 2.0, 3) ** -2)
    probes = np.array([[10, 0, 0], [4, 5, -3], [0, 1, 2], [10, 10, 10]], np.float32)
    away = probes[:, None, :] - 10 * np.eye(3)[None]
    expected = np.sqrt(np.einsum("ncd,de,nce->nc", away, precision, away)).min(axis=1)
    assert model.distance(probes) == pytest.approx(expected, rel=0.03, abs=0.06)


def test_squared_distances_of_held_out_cells_have_as_many_degrees_of_freedom_as_components() -> None:
    vectors, numbers, folds = clouds(rows=6000)
    squares = cross_fitted_distance(vectors, numbers, folds, 6) ** 2
    # Of a chi-squared variable with 6 degrees of freedom: mean 6, variance 12.
    assert squares.mean() == pytest.approx(6, abs=0.25) and squares.var() == pytest.approx(12, abs=1.5)


def test_fitted_class_means_take_their_degrees_of_freedom() -> None:
    rng = np.random.default_rng(1)
    numbers = np.repeat(np.arange(400), 2)
    vectors = rng.standard_normal((800, 4)).astype(np.float32)
    model = fit_classes(vectors, numbers, 4)
    assert model is not None
    # Two cells a class: without the correction the covariance would come out half as large.
    assert np.trace(model.whitening @ model.whitening.T) == pytest.approx(4, rel=0.1)


def test_a_planted_outlier_is_the_farthest_whether_it_is_learned_from_or_not() -> None:
    vectors, numbers, folds = clouds()
    vectors[7] = vectors[200] = [20, 20, -20, 5, 5, 5]
    folds[200] = -1
    distances = cross_fitted_distance(vectors, numbers, folds, 6)
    assert set(np.argsort(-distances)[:2]) == {7, 200}


def test_a_fold_has_no_say_in_its_own_distances() -> None:
    vectors, numbers, folds = clouds()
    before = cross_fitted_distance(vectors, numbers, folds, 4)
    own = folds == 2
    changed = numbers.copy()
    changed[own] = 0
    after = cross_fitted_distance(vectors, changed, folds, 4)
    assert np.array_equal(before[own], after[own])
    assert not np.allclose(before[~own], after[~own])
    # Nor have its other cells: only the cell itself is measured.
    moved = vectors.copy()
    moved[own] += 1
    moved[7] = vectors[7]
    assert folds[7] == 2
    assert cross_fitted_distance(moved, numbers, folds, 4)[7] == before[7]


def test_cells_that_are_not_learned_from_change_nothing_and_get_the_mean_over_folds() -> None:
    vectors, numbers, folds = clouds()
    before = cross_fitted_distance(vectors, numbers, folds, 4)
    more = np.concatenate([vectors, np.full((1, 6), 3, np.float32)])
    after = cross_fitted_distance(more, np.append(numbers, -1), np.append(folds, -1), 4)
    assert np.array_equal(after[:-1], before)
    models = [fit_classes(vectors[folds != k], numbers[folds != k], 4) for k in range(5)]
    expected = np.mean([model.distance(more[-1:])[0] for model in models if model])
    assert after[-1] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("vectors", "numbers"),
    [
        (np.zeros((0, 3), np.float32), []),
        (np.eye(3, dtype=np.float32), [0, 1, 2]),
        (np.ones((6, 3), np.float32), [0, 0, 0, 1, 1, 1]),
    ],
)
def test_too_few_cells_or_cells_that_do_not_vary_have_no_model(vectors: np.ndarray, numbers: list[int]) -> None:
    assert fit_classes(vectors, np.array(numbers, np.int64), 8) is None
    folds = np.arange(len(numbers)) % 2
    assert np.isnan(cross_fitted_distance(vectors, np.array(numbers, np.int64), folds, 8)).all()


def test_fewer_cells_than_dimensions_still_have_finite_distances() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((12, 200)).astype(np.float32)
    distances = cross_fitted_distance(vectors, np.arange(12) % 3, np.arange(12) // 3 % 2, 64)
    assert np.isfinite(distances).all() and (distances > 0).all()


def test_a_class_of_one_cell_is_measured_from_the_other_classes() -> None:
    vectors, numbers, folds = clouds()
    lonely = np.append(numbers, 3)
    vectors = np.concatenate([vectors, np.full((1, 6), 30, np.float32)])
    distances = cross_fitted_distance(vectors, lonely, np.append(folds, 0), 6)
    assert np.isfinite(distances).all() and distances.argmax() == 300


@pytest.mark.parametrize(
    ("right", "quantile", "expected"),
    [
        ("0101111111", 0.999, 0.4),  # up to the fourth, half were wrong: 2 of 4
        ("1111111111", 0.9, 0.1),  # 9 of 10 are surer than the first
        ("1111111111", 0.999, np.nan),
        ("1111111111", 0.7, 0.3),
        ("0000000000", 0.999, 1.0),
        ("0000111111", 0.999, 0.8),
    ],
)
def test_an_image_is_suspect_up_to_where_half_were_wrong_or_hardly_any_lies_lower(
    right: str, quantile: float, expected: float
) -> None:
    values = np.arange(1, 11) / 10
    shuffled = np.random.default_rng(1).permutation(10)
    verdicts = np.array([sign == "1" for sign in right])
    found = sure_above(values[shuffled], verdicts[shuffled], quantile)
    assert found == pytest.approx(expected, nan_ok=True)


def test_equal_probabilities_are_judged_together() -> None:
    assert sure_above(np.full(4, 0.5), np.array([False, False, True, True]), 0.99) == 0.5
    assert np.isnan(sure_above(np.full(4, 0.5), np.array([False, True, True, True]), 0.99))
    assert np.isnan(sure_above(np.zeros(0), np.zeros(0, bool), 0.99))
