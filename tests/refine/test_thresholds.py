from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from sklearn.metrics import f1_score

from buffycoat.refine import thresholds as module
from buffycoat.refine.algorithm import apply_rules
from buffycoat.refine.fit_rules import cross_fitted_rules, fit_every_rule
from buffycoat.refine.fitting import Training
from buffycoat.refine.settings import FitRules, Rule
from buffycoat.refine.switching import switch_rules
from buffycoat.refine.thresholds import (
    CHECKS,
    KEPT_SHARES,
    Scorer,
    best_shares,
    combinations,
    discriminant,
    fit_thresholds,
    passed_by_share,
    pool_of,
    threshold,
    values_of,
)
from tests.refine.cases import CLASSES
from tests.refine.test_fitting import training

COUNTS = {"LY": 300, "SNE": 200, "PC": 40, "PLY": 4, "VLY": 50}
RULE = Rule(rescued="PC", hides_in=("LY", "VLY"), beta=1, tau=0, gates=("mahalanobis", "likeness"), suppress=False)
SETTINGS = FitRules()


def macro(true: np.ndarray, given: np.ndarray) -> float:
    return float(f1_score(true, given, labels=list(CLASSES), average="macro", zero_division=0))


def noisy(seed: int = 3) -> Training:
    """Plasma cells that both branches see dimly: no single check divides them from their hosts."""
    cells, rng = training(COUNTS, seed), np.random.default_rng(seed)
    true = cells.labels == "PC"
    cells.evidence.p[:, CLASSES.index("PC")] = 0.1 * np.exp(rng.normal(size=len(true)) + 2 * true) / 20
    cells.evidence.s[:, CLASSES.index("PC")] = 1 / (1 + np.exp(2 - 2.5 * true - rng.normal(size=len(true))))
    return cells


def test_a_threshold_is_what_a_share_of_values_reaches() -> None:
    values = np.array([np.nan, 1.0, 2.0, 3.0, 4.0, 5.0])
    assert threshold(values, 1.0) == 1 and threshold(values, 0.5) == 3
    assert threshold(values[:1], 1.0) == np.inf


def test_the_score_is_scikit_learns() -> None:
    cells = noisy()
    pool = pool_of(cells, RULE, [])
    chosen = np.random.default_rng(1).random(len(pool.y0)) < 0.3
    found = Scorer(pool, cells, RULE, [])(chosen)
    base = cells.evidence.base_labels()
    given = base.copy()
    given[np.flatnonzero(np.isin(base, RULE.hides_in))[chosen]] = "PC"
    assert found.gain == pytest.approx(macro(cells.labels, given) - macro(cells.labels, base))
    falls = [
        f1_score(cells.labels, base, labels=[host], average="macro", zero_division=0)
        - f1_score(cells.labels, given, labels=[host], average="macro", zero_division=0)
        for host in RULE.hides_in
    ]
    assert found.harm == pytest.approx(max(falls)) and found.changed == chosen.sum()


def test_the_choice_is_the_best_of_all_combinations() -> None:
    cells = noisy()
    pool, settings = pool_of(cells, RULE, []), FitRules()
    passed = list(passed_by_share(pool, values_of(pool, RULE, [], cells)[0], (1.0, 0.5)))
    score = Scorer(pool, cells, RULE, [])
    every = {shares: score(flags) for shares, flags in combinations(passed)}
    assert set(every) == set(product((1.0, 0.5), *[(1.0, 0.5, None)] * 3))
    chosen = best_shares(passed, score, settings)
    assert chosen is not None
    assert every[chosen].gain == max(one.gain for one in every.values() if one.harm <= settings.max_harm)


def test_stricter_shares_pass_fewer_cells() -> None:
    cells = noisy()
    pool = pool_of(cells, RULE, [])
    for passed in passed_by_share(pool, values_of(pool, RULE, [], cells)[0], KEPT_SHARES):
        flags = [passed[share] for share in KEPT_SHARES]
        assert all((strict <= loose).all() for loose, strict in zip(flags[:-1], flags[1:], strict=True))


def test_a_cell_is_measured_from_what_was_fitted_without_its_fold() -> None:
    cells = noisy()
    wrong = Training(cells.evidence, np.where(cells.folds == 0, "SNE", cells.labels), cells.folds)
    before, after = (values_of(pool_of(each, RULE, []), RULE, [], each)[0] for each in (cells, wrong))
    own = pool_of(cells, RULE, []).cells.folds == 0
    assert np.array_equal(before[own], after[own])
    assert not np.array_equal(before[~own], after[~own])


def test_fitted_thresholds_find_the_cells_and_apply() -> None:
    cells = noisy()
    fitted = fit_thresholds(cells, RULE, SETTINGS)
    assert fitted.state == "on" and set(fitted.kept_shares) == set(CHECKS)
    labels = apply_rules(cells.evidence, [fitted]).label
    assert macro(cells.labels, labels) > macro(cells.labels, cells.evidence.base_labels()) + 0.05
    fresh = noisy(seed=8)
    found = apply_rules(fresh.evidence, [fitted]).label
    assert macro(fresh.labels, found) > macro(fresh.labels, fresh.evidence.base_labels()) + 0.03


def test_the_loosest_thresholds_let_every_mistaken_cell_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = training(COUNTS)
    monkeypatch.setattr(module, "KEPT_SHARES", (1.0,))
    fitted = fit_thresholds(cells, RULE, SETTINGS)
    assert fitted.state == "on"
    found = apply_rules(cells.evidence, [fitted]).label
    assert (found[cells.labels == "PC"] == "PC").all()


def test_evidence_that_says_nothing_seldom_convinces() -> None:
    settings, states = FitRules(rules=(RULE,)), []
    for seed in range(12):
        cells, rng = training(COUNTS), np.random.default_rng(seed)
        n = len(cells.labels)
        cells.evidence.p[:, CLASSES.index("PC")] = rng.random(n) * 1e-3
        cells.evidence.s[:] = rng.random((n, len(CLASSES)))
        for values in cells.evidence.features.values():
            values[:] = rng.normal(size=n)
        (fitted,) = switch_rules(cells, fit_every_rule(cells, settings), cross_fitted_rules(cells, settings), settings)
        states.append(fitted.state)
    # By chance alone, a tenth of such rules may be switched on.
    assert states.count("on") <= 2


def test_a_rule_that_must_harm_no_host_is_off() -> None:
    cells, rng = training(COUNTS), np.random.default_rng(5)
    cells.evidence.p[:, CLASSES.index("PC")] = rng.random(len(cells.labels)) * 1e-3
    cells.evidence.s[:] = 0.5
    for values in cells.evidence.features.values():
        values[:] = 1.0
    fitted = fit_thresholds(cells, RULE, FitRules(max_harm=0.0))
    assert fitted.state == "off"
    assert fitted.reason == "no thresholds for PC would have raised macro-F1 out of fold"


def test_too_few_cells_folds_or_patients_say_so() -> None:
    few = fit_thresholds(training({**COUNTS, "PC": 4}), RULE, SETTINGS)
    assert (few.state, few.reason) == ("off", "branch A mistakes 4 training cells of PC, fewer than 5")
    cells = training(COUNTS)
    folds = np.where(cells.labels == "PC", 0, cells.folds).astype(np.int64)
    one = fit_thresholds(Training(cells.evidence, cells.labels, folds), RULE, SETTINGS)
    assert one.reason.startswith("all mistaken training cells of PC are in one fold")
    patients = np.where(cells.labels == "PC", 0, np.arange(len(folds)) + 1).astype(np.int64)
    lonely = fit_thresholds(Training(cells.evidence, cells.labels, cells.folds, patients), RULE, SETTINGS)
    assert lonely.reason == "the mistaken training cells of PC are of fewer than 2 patients"


def test_a_given_rule_can_have_its_thresholds_fitted() -> None:
    settings = FitRules(rules=(RULE.model_copy(update={"suppress": True}),))
    (fitted,) = fit_every_rule(noisy(), settings)
    assert fitted.state == "on" and fitted.rule.beta > 1 and fitted.rule.suppress


def test_missing_embeddings_and_measurements_never_pass() -> None:
    cells = training(COUNTS)
    true = np.flatnonzero(cells.labels == "PC")
    cells.evidence.s[true[:10]] = np.nan
    for values in cells.evidence.features.values():
        values[true[10:20]] = np.nan
    fitted = fit_thresholds(cells, RULE, SETTINGS)
    found = apply_rules(cells.evidence, [fitted]).label
    assert (found[true[:10]] != "PC").all()
    if fitted.rule.gates:
        assert (found[true[10:20]] != "PC").all()


def test_a_rules_own_gates_and_host_probability_are_kept_beside_the_fitted_ones() -> None:
    cells = training(COUNTS)
    impossible = RULE.model_copy(update={"gates": ("spikiness",), "min_spikiness": 99.0})
    assert fit_thresholds(cells, impossible, SETTINGS).state == "off"
    possible = RULE.model_copy(
        update={"gates": ("spikiness", "box"), "min_spikiness": 1.0, "max_host_probability": 0.9}
    )
    fitted = fit_thresholds(cells, possible, SETTINGS)
    assert fitted.state == "on" and fitted.rule.gates[:2] == ("spikiness", "box")
    assert fitted.references and fitted.rule.max_host_probability == 0.9
    q = cells.evidence.p.max(axis=1)
    found = apply_rules(cells.evidence, [fitted]).label
    assert not ((found == "PC") & (q >= 0.9)).any()
    never = RULE.model_copy(update={"max_host_probability": 1e-6})
    assert fit_thresholds(cells, never, SETTINGS).state == "off"


def test_a_cell_without_an_embedding_counts_for_no_threshold_that_would_refuse_it() -> None:
    cells = training(COUNTS)
    cells.evidence.s[cells.labels == "PC"] = np.nan
    assert fit_thresholds(cells, RULE, SETTINGS).state == "off"


def test_a_discriminant_falls_back_on_measured_cells() -> None:
    cells = training(COUNTS)
    own = np.flatnonzero(cells.labels == "PC")
    # Branch A gets all but six right; of these six two cannot be measured.
    cells.evidence.p[own[6:]] = np.eye(len(CLASSES))[CLASSES.index("PC")]
    cells.evidence.features["spikiness"][own[:2]] = np.nan
    found = discriminant(pool_of(cells, RULE, []), cells, RULE)
    assert found is not None and found.cells == len(own) - 2
