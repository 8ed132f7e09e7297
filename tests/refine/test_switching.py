from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from buffycoat.refine.algorithm import apply_rules
from buffycoat.refine.fitting import Training, fit_rules
from buffycoat.refine.settings import FitReference
from buffycoat.refine.switching import cross_fitted_labels, cross_fitted_rules, macro_f1, switch_rules
from tests.refine.cases import CLASSES
from tests.refine.test_fitting import training

COUNTS = {"LY": 300, "SNE": 200, "PC": 40, "PLY": 10, "VLY": 50}
SETTINGS = FitReference()


def switched(cells: Training, settings: FitReference = SETTINGS) -> dict[str, str]:
    return {fitted.rule.rescued: fitted.state for fitted in switch_rules(cells, fit_rules(cells, settings), settings)}


def test_macro_f1_counts_every_class() -> None:
    true, given = np.array(["LY", "LY", "PC"]), np.array(["LY", "LY", "LY"])
    assert macro_f1(true, given, CLASSES) == pytest.approx(
        f1_score(true, given, labels=list(CLASSES), average="macro", zero_division=0)
    )
    assert macro_f1(true, true, ("LY", "PC")) == 1
    assert macro_f1(true, true, ("LY", "PC", "SNE")) == pytest.approx(2 / 3)


def test_a_rule_that_finds_its_cells_is_on() -> None:
    cells = training(COUNTS)
    ply, pc = switch_rules(cells, fit_rules(cells, SETTINGS), SETTINGS)
    assert pc.state == "on" and pc.reason.startswith("it helps: out-of-fold macro-F1")
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
    always = FitReference(switch="always")
    ply, pc = switch_rules(cells, fit_rules(cells, always), always)
    assert (ply.state, pc.state) == ("on", "on")
    assert ply.reason.startswith("always on; out-of-fold macro-F1")
    assert ply.macro_f1_with is not None and ply.macro_f1_without is not None
    assert ply.macro_f1_with < ply.macro_f1_without


def test_a_rule_that_changes_nothing_is_off() -> None:
    cells = training(COUNTS)
    cells.evidence.s[:] = np.nan
    rules = switch_rules(cells, fit_rules(cells, SETTINGS), SETTINGS)
    assert [fitted.state for fitted in rules] == ["off", "off"]
    assert [fitted.changed for fitted in rules] == [0, 0]


def test_the_gain_must_exceed_the_least() -> None:
    assert switched(training(COUNTS), FitReference(min_gain=0.9)) == {"PLY": "off", "PC": "off"}


def test_a_suppressed_class_that_is_not_found_again_is_left_alone() -> None:
    cells = training(COUNTS)
    true = cells.labels == "PC"
    # Branch A knows plasma cells, branch B does not: suppression alone would lose them all.
    cells.evidence.p[true] = 0.02
    cells.evidence.p[true, CLASSES.index("PC")] = 0.9
    cells.evidence.s[:, CLASSES.index("PC")] = 0.0
    rules = switch_rules(cells, fit_rules(cells, SETTINGS), SETTINGS)
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
    rules = fit_rules(alone, SETTINGS)
    assert rules[1].state == "on"
    # Without that fold there is no plasma cell to fit on, so out of fold nothing is found.
    assert switch_rules(alone, rules, SETTINGS)[1].state == "off"


def test_shuffled_labels_of_the_rare_class_show_no_gain() -> None:
    cells = training(COUNTS)
    rng = np.random.default_rng(11)
    others = np.isin(cells.labels, ["LY", "PC"])
    labels = cells.labels.copy()
    labels[others] = rng.permutation(labels[others])
    rules = FitReference(rules=SETTINGS.rules[1:])
    shuffled = Training(cells.evidence, labels, cells.folds)
    pc = switch_rules(shuffled, fit_rules(shuffled, rules), rules)[0]
    assert pc.macro_f1_with is not None and pc.macro_f1_without is not None
    assert pc.macro_f1_with - pc.macro_f1_without < 0.05
