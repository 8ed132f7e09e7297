from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from buffycoat.refine import switching as module
from buffycoat.refine.algorithm import apply_rules
from buffycoat.refine.fit_rules import cross_fitted_rules, fit_every_rule
from buffycoat.refine.fitting import Training
from buffycoat.refine.rules import FittedRule
from buffycoat.refine.settings import FitRules
from buffycoat.refine.switching import compare, cross_fitted_labels, holm, switch_rules
from tests.refine.cases import CLASSES, given
from tests.refine.test_fitting import training

COUNTS = {"LY": 300, "SNE": 200, "PC": 40, "PLY": 10, "VLY": 50}
SETTINGS = given()


def decided(cells: Training, settings: FitRules = SETTINGS) -> list[FittedRule]:
    return switch_rules(cells, fit_every_rule(cells, settings), cross_fitted_rules(cells, settings), settings)


def switched(cells: Training, settings: FitRules = SETTINGS) -> dict[str, str]:
    return {fitted.rule.rescued: fitted.state for fitted in decided(cells, settings)}


def test_a_comparison_holds_scikit_learns_scores_and_the_largest_fall() -> None:
    cells = training(COUNTS)
    before = np.where(cells.labels == "PC", "LY", cells.labels)
    after = np.where((cells.labels == "PC") | (cells.labels == "VLY"), "PC", cells.labels)
    found = compare(cells, before, after, "PC")
    for value, labels in ((found.before, before), (found.after, after)):
        expected = f1_score(cells.labels, labels, labels=list(CLASSES), average="macro", zero_division=0)
        assert value == pytest.approx(expected)
    fall = f1_score(cells.labels, before, labels=["VLY"], average="macro", zero_division=0)
    assert (found.harmed, found.harm) == ("VLY", pytest.approx(fall))
    assert found.changed == COUNTS["PC"] + COUNTS["VLY"]


def test_nothing_changed_never_rises_and_the_truth_always_does() -> None:
    cells = training(COUNTS)
    base = np.where(cells.labels == "PC", "LY", cells.labels)
    assert compare(cells, base, base, "PC").without_rise == 1
    assert compare(cells, base, cells.labels, "PC").without_rise == 0


def test_resamples_without_the_class_are_left_out() -> None:
    cells = training(COUNTS)
    base = np.where(cells.labels == "PC", "LY", cells.labels)
    patients = np.where(cells.labels == "PC", 0, np.arange(len(base)) % 40 + 1).astype(np.int64)
    alone = Training(cells.evidence, cells.labels, cells.folds, patients)
    # Resamples without that patient say nothing of the class, so the gain itself is sure: MIN_GROUPS is what objects.
    assert compare(alone, base, cells.labels, "PC").without_rise == 0
    mixed = np.where((cells.labels == "PC") & (np.arange(len(base)) % 3 > 0), "LY", cells.labels)
    mixed[np.flatnonzero(cells.labels == "LY")[:90]] = "PC"
    found = compare(cells, base, mixed, "PC")
    assert 0 < found.without_rise < 1 or found.after < found.before


def test_a_rule_that_finds_its_cells_is_on() -> None:
    cells = training(COUNTS)
    ply, pc = decided(cells, SETTINGS)
    assert pc.state == "on" and pc.reason.startswith(
        "it helps (no rise in 0.0% of resamples of patients, 10.0% allowed)"
    )
    assert pc.macro_f1_with is not None and pc.macro_f1_without is not None and pc.changed is not None
    assert pc.macro_f1_with > pc.macro_f1_without + 0.1
    assert 25 <= pc.changed <= 45
    # Prolymphocytes get 0.02 * 150 > 0.7 and 0.9 > 0.35; their contours, here of arbitrary units, all pass.
    assert ply.state == "on"


def test_a_rule_that_harms_is_off_unless_always_on() -> None:
    cells = training(COUNTS)
    # Both branches see prolymphocytes everywhere, so the rule takes lymphocytes away.
    cells.evidence.p[:, CLASSES.index("PLY")] = 0.02
    cells.evidence.s[:, CLASSES.index("PLY")] = 0.9
    assert switched(cells) == {"PLY": "off", "PC": "on"}
    always = given(switch="always")
    ply, pc = decided(cells, always)
    assert (ply.state, pc.state) == ("on", "on")
    assert ply.reason.startswith("always on; out-of-fold macro-F1")
    assert ply.macro_f1_with is not None and ply.macro_f1_without is not None
    assert ply.macro_f1_with < ply.macro_f1_without


def test_a_rule_that_changes_nothing_is_off() -> None:
    cells = training(COUNTS)
    cells.evidence.s[:] = np.nan
    rules = decided(cells, SETTINGS)
    assert [fitted.state for fitted in rules] == ["off", "off"]
    assert [fitted.changed for fitted in rules] == [0, 0]


def test_the_gain_must_exceed_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_GAIN", 0.9)
    assert switched(training(COUNTS)) == {"PLY": "off", "PC": "off"}


def test_a_suppressed_class_that_is_not_found_again_is_left_alone() -> None:
    cells = training(COUNTS)
    true = cells.labels == "PC"
    # Branch A knows plasma cells, branch B does not: suppression alone would lose them all.
    cells.evidence.p[true] = 0.02
    cells.evidence.p[true, CLASSES.index("PC")] = 0.9
    cells.evidence.s[:, CLASSES.index("PC")] = 0.0
    rules = decided(cells, SETTINGS)
    states = {fitted.rule.rescued: fitted for fitted in rules}
    assert states["PC"].state == "off" and states["PC"].changed == true.sum()
    used = [fitted for fitted in rules if fitted.state == "on"]
    assert (apply_rules(cells.evidence, used).label[true] == "PC").all()


def test_every_row_is_judged_without_its_own_fold() -> None:
    cells = training(COUNTS)
    by_fold = cross_fitted_rules(cells, SETTINGS)
    assert sorted(by_fold) == [0, 1, 2, 3, 4]
    before = cross_fitted_labels(cells, by_fold, {"PC"})
    # What fold 0 holds has no say in its own labels, were its true labels ever so wrong.
    wrong = Training(cells.evidence, np.where(cells.folds == 0, "SNE", cells.labels), cells.folds)
    after = cross_fitted_labels(wrong, cross_fitted_rules(wrong, SETTINGS), {"PC"})
    assert np.array_equal(before[cells.folds == 0], after[cells.folds == 0])
    assert not np.array_equal(
        np.array([one.references["LY"].max_distance for one in by_fold[1][1:]]),
        np.array([one.references["LY"].max_distance for one in cross_fitted_rules(wrong, SETTINGS)[1][1:]]),
    )


def test_only_chosen_rules_are_used() -> None:
    cells = training(COUNTS)
    by_fold = cross_fitted_rules(cells, SETTINGS)
    assert np.array_equal(cross_fitted_labels(cells, by_fold, set()), cells.evidence.base_labels())
    assert "PLY" not in cross_fitted_labels(cells, by_fold, {"PC"})


def test_rare_cells_of_one_fold_cannot_prove_a_rule() -> None:
    cells = training(COUNTS)
    folds = np.where(cells.labels == "PC", 0, cells.folds)
    alone = Training(cells.evidence, cells.labels, folds.astype(np.int64))
    rules = fit_every_rule(alone, SETTINGS)
    assert rules[1].state == "on"
    # Without that fold there is no plasma cell to fit on, so out of fold nothing is found.
    assert decided(alone)[1].state == "off"


def test_shuffled_labels_of_the_rare_class_show_no_gain() -> None:
    cells = training(COUNTS)
    rng = np.random.default_rng(11)
    others = np.isin(cells.labels, ["LY", "PC"])
    labels = cells.labels.copy()
    labels[others] = rng.permutation(labels[others])
    rules = given(rules=SETTINGS.rules[1:])
    shuffled = Training(cells.evidence, labels, cells.folds)
    pc = decided(shuffled, rules)[0]
    assert pc.macro_f1_with is not None and pc.macro_f1_without is not None
    assert pc.macro_f1_with - pc.macro_f1_without < 0.05


def test_levels_are_those_of_holm() -> None:
    assert holm({"a": 0.0, "b": 0.04, "c": 0.01}, 0.09) == pytest.approx({"a": 0.03, "c": 0.045, "b": 0.09})
    # After the first that fails, nothing passes that it did not.
    assert holm({"a": 0.0, "b": 0.06, "c": 0.05}, 0.09) == pytest.approx({"a": 0.03, "c": 0.045, "b": 0.045})
    assert holm({}, 0.1) == {}


def test_two_folds_are_too_few_to_judge_a_fitted_rule_and_it_says_so() -> None:
    cells = training(COUNTS)
    settings = FitRules(rules=given().rules, thresholds="fitted")
    halves = Training(cells.evidence, cells.labels, cells.folds % 2)
    reasons = {one.rule.rescued: (one.state, one.reason) for one in decided(halves, settings)}
    assert reasons["PC"][0] == "off"
    assert reasons["PC"][1].startswith("it cannot be judged, as no fold can do without its own cells: all mistaken")
    assert {one.rule.rescued: one.state for one in decided(cells, settings)}["PC"] == "on"
