from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.calibration import _TemperatureScaling

from buffycoat.core.errors import InputError
from buffycoat.stats.calibration import HIGHEST, LOWEST, calibrate, fit_temperature, stacked, view_mean

CODES = ["BA", "LY", "PC"]


def honest(n: int = 4000, views: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (n, views, 3), the same in each view, and labels drawn from their softmax."""
    rng = np.random.default_rng(seed)
    logits = np.repeat(rng.normal(0, 2, (n, 1, 3)), views, axis=1)
    chances = softmax(logits[:, 0], axis=1)
    return logits, (rng.random(n)[:, None] > chances.cumsum(axis=1)).sum(axis=1)


def rows_of(logits: np.ndarray, folds: np.ndarray) -> pd.DataFrame:
    """Return logits as the out-of-fold rows of a table; image ids are numbers in text."""
    n, views, _ = logits.shape
    table = pd.DataFrame(logits.reshape(n * views, len(CODES)), columns=CODES)
    table["image_id"] = np.repeat([f"{k:05d}" for k in range(n)], views)
    return table.assign(view=np.tile(np.arange(views), n), fold=np.repeat(folds, views))


def numbers_of(labels: np.ndarray) -> pd.Series:
    return pd.Series(labels, index=[f"{k:05d}" for k in range(len(labels))])


@pytest.mark.parametrize("factor", [0.4, 1.0, 5.0])
def test_with_one_view_it_is_the_temperature_of_scikit_learn(factor: float) -> None:
    logits, labels = honest(600)
    theirs = _TemperatureScaling().fit(factor * logits[:, 0], labels)
    assert fit_temperature(factor * logits, labels) == pytest.approx(1 / theirs.beta_, rel=1e-5)


def test_with_views_it_is_the_best_of_a_dense_search() -> None:
    rng = np.random.default_rng(3)
    logits, labels = honest(300, views=4)
    logits = 3 * logits + rng.normal(0, 3, logits.shape)
    tried = np.exp(np.linspace(np.log(0.5), np.log(15), 4001))
    surprise = [-np.log(view_mean(logits, t)[np.arange(300), labels]).mean() for t in tried]
    ours = fit_temperature(logits, labels)
    assert ours == pytest.approx(tried[int(np.argmin(surprise))], rel=1e-3)
    one_view = fit_temperature(logits[:, :1], labels)
    assert abs(np.log(ours / one_view)) > 0.1, "the mean over views is calibrated, not a view"


@pytest.mark.parametrize("views", [1, 8])
def test_a_known_factor_is_found(views: int) -> None:
    logits, labels = honest(20_000, views)
    assert fit_temperature(logits, labels) == pytest.approx(1, rel=0.03)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3 * fit_temperature(logits, labels), rel=1e-5)


def test_one_view_keeps_every_label_and_the_errors_shrink() -> None:
    logits, labels = honest()
    found = calibrate(rows_of(3 * logits, np.arange(4000) % 5), numbers_of(labels), CODES)
    scaled = view_mean(3 * logits, found["temperature"])
    assert (scaled.argmax(axis=1) == logits[:, 0].argmax(axis=1)).all()
    before, after = found["before"], found["after"]
    assert after["expected_calibration_error"] < 0.03 < 0.1 < before["expected_calibration_error"]
    assert after["negative_log_likelihood"] < before["negative_log_likelihood"] - 0.1
    assert sum(row[2] for row in after["bins"]) == found["images"] == 4000 and "15 bins" in found["binning"]


def test_the_labels_of_a_fold_do_not_touch_its_own_temperature() -> None:
    logits, labels = honest(600, views=2)
    folds = np.arange(600) % 3
    honest_run = calibrate(rows_of(logits, folds), numbers_of(labels), CODES)
    spoiled = np.where(folds == 1, (labels + 1) % 3, labels)
    spoiled_run = calibrate(rows_of(logits, folds), numbers_of(spoiled), CODES)
    first, second = honest_run["by_fold"], spoiled_run["by_fold"]
    assert first["1"] == second["1"] == {"temperature": first["1"]["temperature"], "fitted_on": 400, "images": 200}
    assert first["0"]["temperature"] < second["0"]["temperature"]
    assert honest_run["temperature"] < spoiled_run["temperature"]
    others = folds != 1
    assert first["1"]["temperature"] == pytest.approx(fit_temperature(logits[others], labels[others]))


def test_without_fitting_nothing_changes() -> None:
    logits, labels = honest(60)
    found = calibrate(rows_of(logits, np.arange(60) % 2), numbers_of(labels), CODES, fitted=False)
    assert found["temperature"] == 1 and found["by_fold"]["0"]["temperature"] == 1
    assert found["before"] == found["after"] and not found["fitted"]


def test_a_model_without_mistakes_meets_the_bound_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    logits, _ = honest(50, views=2)
    with caplog.at_level(logging.WARNING):
        sure = fit_temperature(logits, logits[:, 0].argmax(axis=1))
    assert sure == pytest.approx(LOWEST, rel=0.01) and "meets its bound" in caplog.text
    caplog.clear()
    assert fit_temperature(logits, logits[:, 0].argmin(axis=1)) == pytest.approx(HIGHEST, rel=0.01)
    assert "meets its bound" in caplog.text


def test_one_class_one_fold_and_wild_logits_are_no_exception(caplog: pytest.LogCaptureFixture) -> None:
    logits, _ = honest(40)
    found = calibrate(rows_of(logits, np.zeros(40, int)), numbers_of(np.zeros(40, int)), CODES)
    assert found["by_fold"] == {"0": {"temperature": 1.0, "fitted_on": 0, "images": 40}}
    assert "all folds but 0: no held-out image" in caplog.text and found["after"] == found["before"]
    assert LOWEST < found["temperature"] < HIGHEST
    with np.errstate(all="raise", under="ignore"):
        assert LOWEST <= fit_temperature(1e6 * logits, np.zeros(40, int)) <= HIGHEST


def test_no_row_at_all_is_told_in_nulls() -> None:
    empty = rows_of(np.empty((0, 1, 3)), np.empty(0, int))
    found = calibrate(empty, pd.Series(dtype=int), CODES)
    assert found["temperature"] == 1 and found["images"] == 0 and found["by_fold"] == {}
    assert found["after"]["negative_log_likelihood"] is None


def test_rows_are_stacked_whatever_their_order() -> None:
    logits, _ = honest(5, views=3)
    logits = logits + np.arange(3)[None, :, None]
    table = rows_of(logits, np.array([0, 1, 0, 1, 0])).sample(frac=1, random_state=1)
    ids, folds, values = stacked(table, CODES)
    assert ids == [f"{k:05d}" for k in range(5)] and folds.tolist() == [0, 1, 0, 1, 0]
    assert np.array_equal(values, logits)
    with pytest.raises(InputError, match="differ in the views"):
        stacked(table.iloc[1:], CODES)
    twice = table.assign(view=table["view"].replace(2, 1))
    with pytest.raises(InputError, match="differ in the views"):
        stacked(twice, CODES)
