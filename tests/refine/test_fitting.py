from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import chi
from sklearn.covariance import LedoitWolf

from buffycoat.refine import fitting as module
from buffycoat.refine.algorithm import Evidence
from buffycoat.refine.fit_rules import fit_every_rule
from buffycoat.refine.fitting import Training, largest_distance, mean_and_covariance, shrunk_covariance, within_class
from buffycoat.refine.gates import mahalanobis
from buffycoat.refine.rules import BOX_FEATURES, DISTANCE_FEATURES, FittedRule
from buffycoat.refine.settings import PLASMA_CELL
from tests.refine.cases import CLASSES, FEATURES, given

UNITS = {"area_px": 4000.0, "cell_level": 20.0, "cell_level_sd": 5.0, "red_blue_ratio": 0.1, "nucleus_ratio": 0.1}


def training(
    counts: dict[str, int], seed: int = 1, hides_in: str = "LY", classes: tuple[str, ...] = CLASSES
) -> Training:
    """Cells whose plasma cells lie two standard deviations off in every feature; branch A gives them to `hides_in`."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(list(counts), list(counts.values()))
    n = len(labels)
    p = np.full((n, len(classes)), 0.02)
    p[np.arange(n), [classes.index(hides_in if code in ("PC", "PLY") else code) for code in labels]] = 0.7
    for code, high in (("PC", 0.2), ("PLY", 0.02)):
        if code in classes:
            p[:, classes.index(code)] = np.where(labels == code, high, 1e-4)
    features = {name: (rng.normal(size=n) + 2 * (labels == "PC")) * UNITS.get(name, 1.0) + 10 for name in FEATURES}
    s = np.where(np.arange(len(classes)) == [[classes.index(code)] for code in labels], 0.9, 0.001)
    return Training(Evidence(classes, p, s, features), labels, np.arange(n, dtype=np.int64) % 5)


def plasma(rules: list[FittedRule]) -> FittedRule:
    return next(fitted for fitted in rules if fitted.rule.rescued == "PC")


def test_the_covariance_is_scikit_learns() -> None:
    rows = np.random.default_rng(1).normal(size=(60, 4)) @ np.diag([1, 2, 0.5, 1])
    expected = LedoitWolf(assume_centered=True).fit(rows).covariance_
    assert shrunk_covariance(rows) == pytest.approx(expected + 1e-6 * np.eye(4))
    assert np.linalg.eigvalsh(shrunk_covariance(np.zeros((3, 4)))).min() > 0


def test_few_cells_borrow_and_many_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    values, pooled = rng.normal(size=(40, 3)) * 3, np.eye(3)
    _, own = mean_and_covariance(values, pooled)
    assert own == pytest.approx(shrunk_covariance(values - values.mean(axis=0)))
    monkeypatch.setattr(module, "OWN_CELLS", 80)
    _, half = mean_and_covariance(values, pooled)
    assert half == pytest.approx((own + pooled) / 2)
    monkeypatch.setattr(module, "OWN_CELLS", 10_000)
    mean, two = mean_and_covariance(values[:2], pooled)
    assert two == pytest.approx(pooled, abs=0.01) and mean == pytest.approx(values[:2].mean(axis=0))


def test_within_class_takes_class_means_out() -> None:
    labels = np.array(["a", "b", "a", "b", "c"])
    rows = within_class(np.arange(10.0).reshape(5, 2) ** 2, labels)
    for code in "abc":
        assert rows[labels == code].mean(axis=0) == pytest.approx(0)


def test_the_largest_distance_is_near_that_of_normal_cells() -> None:
    rng = np.random.default_rng(3)
    values, folds = rng.normal(size=(4000, 6)), np.arange(4000) % 5
    found, source = largest_distance(values, folds, np.eye(6))
    assert source == "cross_fitted"
    assert found == pytest.approx(chi.ppf(0.95, 6), rel=0.03)


def test_the_largest_distance_grows_with_its_quantile(monkeypatch: pytest.MonkeyPatch) -> None:
    values, folds, found = np.random.default_rng(4).normal(size=(50, 6)), np.arange(50) % 5, []
    for quantile in (0.5, 0.8, 0.99):
        monkeypatch.setattr(module, "DISTANCE_QUANTILE", quantile)
        found.append(largest_distance(values, folds, np.eye(6))[0])
    assert found == sorted(set(found))


def test_cells_of_one_fold_cannot_be_cross_fitted() -> None:
    values = np.random.default_rng(5).normal(size=(50, 6))
    found = largest_distance(values, np.zeros(50, np.int64), np.eye(6))
    assert found[0] == pytest.approx(chi.ppf(0.95, 6)) and found[1] == "chi_squared"


def test_the_reference_is_that_of_the_rescued_class_in_its_units() -> None:
    cells = training({"LY": 400, "SNE": 300, "PC": 60, "PLY": 5, "VLY": 50})
    fitted = plasma(fit_every_rule(cells, given()))
    assert fitted.state == "on" and list(fitted.references) == ["LY", "VLY"]
    ly, vly = fitted.references["LY"], fitted.references["VLY"]
    assert (ly.cells, ly.cells_of, ly.own_share) == (60, "host", 1.0)
    # No plasma cell hides in variant lymphocytes here: all of them stand in.
    assert (vly.cells, vly.cells_of) == (60, "all_hosts")
    true = cells.labels == "PC"
    for name in DISTANCE_FEATURES:
        unit = UNITS.get(name, 1.0)
        assert ly.mean[name] == pytest.approx(cells.evidence.features[name][true].mean())
        assert ly.scale[name] == pytest.approx(unit, rel=0.1)
    inside = mahalanobis(cells.features(DISTANCE_FEATURES)[true], ly) <= ly.max_distance
    assert 0.9 <= inside.mean() <= 1
    others = mahalanobis(cells.features(DISTANCE_FEATURES)[~true], ly) <= ly.max_distance
    assert others.mean() < 0.4
    for name in BOX_FEATURES:
        low, high = ly.box[name]
        values = cells.evidence.features[name][true]
        assert ((values >= low) & (values <= high)).mean() >= 0.95
        assert low > values.min() - UNITS[name] and high < values.max() + UNITS[name]


def test_units_of_a_feature_do_not_matter() -> None:
    cells = training({"LY": 200, "SNE": 100, "PC": 20, "PLY": 2, "VLY": 20})
    other = {name: values * (1000.0 if name == "area_px" else 1.0) for name, values in cells.evidence.features.items()}
    changed = Training(Evidence(CLASSES, cells.evidence.p, cells.evidence.s, other), cells.labels, cells.folds)
    before, after = (plasma(fit_every_rule(each, given())).references["LY"] for each in (cells, changed))
    assert after.max_distance == pytest.approx(before.max_distance)
    assert np.array(after.covariance) == pytest.approx(np.array(before.covariance))


def test_the_order_of_cells_does_not_matter() -> None:
    cells = training({"LY": 100, "SNE": 50, "PC": 20, "PLY": 2, "VLY": 20})
    order = np.random.default_rng(1).permutation(len(cells.labels))
    features = {name: values[order] for name, values in cells.evidence.features.items()}
    evidence = Evidence(CLASSES, cells.evidence.p[order], cells.evidence.s[order], features)
    shuffled = Training(evidence, cells.labels[order], cells.folds[order])
    before, after = (plasma(fit_every_rule(each, given())).references["LY"] for each in (cells, shuffled))
    assert after.mean == pytest.approx(before.mean)
    assert after.max_distance == pytest.approx(before.max_distance)
    for name, ends in before.box.items():
        assert after.box[name] == pytest.approx(ends)


def gaps(cells: Training, chosen: npt.NDArray[np.bool_]) -> Training:
    cells.evidence.features["cytoplasm_level"][chosen] = np.nan
    return cells


def test_too_few_cells_switch_the_rule_off_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = plasma(fit_every_rule(training({"LY": 50, "SNE": 20, "PC": 4, "PLY": 2, "VLY": 20}), given()))
    assert (fitted.state, fitted.reason) == ("off", "4 measured training cells of PC, fewer than 5")
    assert fitted.references == {}
    cells = training({"LY": 50, "SNE": 20, "PC": 12, "PLY": 2, "VLY": 20})
    few = plasma(fit_every_rule(gaps(cells, (cells.labels == "PC") & (cells.folds < 3)), given()))
    assert few.state == "off"
    monkeypatch.setattr(module, "MIN_CELLS", 2)
    assert plasma(fit_every_rule(cells, given())).state == "on"


def test_a_data_set_without_the_classes_has_no_rules() -> None:
    cells = training({"LY": 50, "SNE": 20, "PC": 20, "PLY": 0, "VLY": 0})
    # Only the names count: the class PC is called so, and prolymphocytes and variant lymphocytes are unknown.
    other = Evidence(("LY", "PC", "XX", "SNE", "YY"), cells.evidence.p, cells.evidence.s, cells.evidence.features)
    ply, pc = fit_every_rule(Training(other, cells.labels, cells.folds), given())
    assert (ply.state, ply.reason) == ("off", "this data set has no class PLY")
    assert pc.state == "on" and pc.rule.hides_in == ("LY",) and list(pc.references) == ["LY"]
    hostless = PLASMA_CELL.model_copy(update={"hides_in": ("VLY", "ZZ")})
    (off,) = fit_every_rule(Training(other, cells.labels, cells.folds), given(rules=(hostless,)))
    assert off.reason == "this data set has none of the classes that PC hides in"


def test_equal_cells_can_be_fitted() -> None:
    cells = training({"LY": 30, "SNE": 20, "PC": 10, "PLY": 2, "VLY": 20})
    for values in cells.evidence.features.values():
        values[:] = 5.0
    fitted = plasma(fit_every_rule(cells, given()))
    reference = fitted.references["LY"]
    assert mahalanobis(cells.features(DISTANCE_FEATURES), reference) == pytest.approx(0)
    assert reference.max_distance == pytest.approx(0)
