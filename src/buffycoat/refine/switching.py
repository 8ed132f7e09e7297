"""Which rules are on: those that raise the out-of-fold macro-F1, all of a rule fitted without the row's fold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from buffycoat.data.labels import class_numbers
from buffycoat.refine.algorithm import Labels, apply_rules
from buffycoat.refine.fitting import Folds, Training
from buffycoat.refine.rules import FittedRule
from buffycoat.refine.settings import FitRules
from buffycoat.stats.scores import class_scores, cluster_matrices, overall_scores, resample, resampled_scores

RESAMPLES = 1000
"""Bootstrap resamples of patients: shares of them are then sure to about 0.01."""
MIN_GAIN = 0.001
"""The rise of macro-F1 that must be exceeded; ours."""
LEVEL = 0.1
"""Largest share of resamples of patients, of those that hold the class, in which macro-F1 does not rise by a rule
alone; shared among the rules that are tried (Holm). Ours: rare classes have few patients, who prove little."""
SEED = 0
"""Of the resampled patients: a decision is no matter of the run's seed."""


def numbers(labels: Labels, classes: tuple[str, ...]) -> Folds:
    """Return the position of each label in `classes`, (n,)."""
    place = class_numbers(classes)
    return np.array([place[str(code)] for code in labels], np.int64)


@dataclass(frozen=True)
class Comparison:
    """One labelling against another: macro-F1 of both, how surely it rises, and whose F1 falls most."""

    before: float
    after: float
    without_rise: float
    """Share of the resamples of patients, of those that hold the spared class, in which macro-F1 does not rise."""
    harmed: str
    harm: float
    changed: int


def clusters_of(training: Training) -> Folds:
    """Return the number of each cell's patient (n,), without leaving one out; a cell is its own where none is known."""
    if training.patients is None:
        return np.arange(len(training.labels))
    return np.asarray(np.unique(training.patients, return_inverse=True)[1], np.int64)


def compare(training: Training, before: Labels, after: Labels, spared: str) -> Comparison:
    """Return what changing labels (n,) does; `spared` is the class whose own F1 is not looked at."""
    classes, patients = training.evidence.classes, clusters_of(training)
    own, count, true = classes.index(spared), len(classes), numbers(training.labels, classes)
    tables = [cluster_matrices(true, numbers(given, classes), patients, count) for given in (before, after)]
    whole = [table.sum(axis=0).reshape(count, count) for table in tables]
    present = whole[0].sum(axis=1) > 0
    scores = [float(overall_scores(matrix)["macro_f1"]) for matrix in whole]
    resampled = resample(tables, RESAMPLES, SEED, "switch")
    # A resample without the class says nothing of it.
    held = resampled[0][:, own].sum(axis=1) > 0
    drawn = [resampled_scores(sums[held], present)["macro_f1"] for sums in resampled]
    fall = class_scores(whole[0])["f1"] - class_scores(whole[1])["f1"]
    fall[own] = -1.0
    return Comparison(
        before=scores[0], after=scores[1],
        without_rise=float((drawn[1] <= drawn[0]).mean()) if held.any() else 1.0,
        harmed=classes[int(fall.argmax())], harm=float(fall.max()), changed=int((before != after).sum()),
    )  # fmt: skip


def cross_fitted_labels(training: Training, by_fold: dict[int, list[FittedRule]], rescued: set[str]) -> Labels:
    """Return the final label of each row by the rules of its fold, of which only those for `rescued` are used."""
    labels = training.evidence.base_labels()
    for fold, rules in by_fold.items():
        rows = training.folds == fold
        used = [fitted for fitted in rules if fitted.state == "on" and fitted.rule.rescued in rescued]
        labels[rows] = apply_rules(training.evidence.rows(rows), used).label
    return labels


def holm(shares: dict[str, float], level: float) -> dict[str, float]:
    """Return, for each rule, the level that its share of resamples is held against (Holm's step-down procedure).

    The surest of m rules must pass level / m, the next level / (m - 1), and so on; after one that fails, all others are
    held against what that one was. Source: S. Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    allowed, failed, current = dict[str, float](), False, level
    levels = [level / (len(shares) - place) for place in range(len(shares))]
    for (code, share), next_level in zip(sorted(shares.items(), key=lambda pair: pair[1]), levels, strict=True):
        current = current if failed else next_level
        failed = failed or share > current
        allowed[code] = current
    return allowed


def decide(found: Comparison, alone: float, allowed: float, settings: FitRules) -> tuple[bool, str]:
    """Return whether a rule is on, and why.

    `found` compares it with the rules that are already on; `alone` is its share of resamples without a rise by itself.
    """
    measured = (
        f"out-of-fold macro-F1 {found.before:.4f} without, {found.after:.4f} with it ({found.changed} labels changed)"
    )
    if settings.switch == "always":
        return True, f"always on; {measured}"
    if found.after - found.before <= MIN_GAIN:
        return False, f"it does not help: {measured}"
    if found.harm > settings.max_harm:
        return False, f"it lowers the F1 of {found.harmed} by {found.harm:.4f}: {measured}"
    surely = f"no rise in {alone:.1%} of resamples of patients, {allowed:.1%} allowed"
    if alone > allowed:
        return False, f"it may help, but not surely ({surely}): {measured}"
    return True, f"it helps ({surely}): {measured}"


def never_tried(code: str, by_fold: dict[int, list[FittedRule]]) -> str:
    """Return why the rule for a class is on in no fold, so that nothing shows whether it helps; '' otherwise."""
    fitted = [one for rules in by_fold.values() for one in rules if one.rule.rescued == code]
    if any(one.state == "on" for one in fitted):
        return ""
    why = fitted[0].reason if fitted else f"branch A mistakes too few cells of {code}"
    return f"it cannot be judged, as no fold can do without its own cells: {why}"


def switch_rules(
    training: Training, rules: list[FittedRule], by_fold: dict[int, list[FittedRule]], settings: FitRules
) -> list[FittedRule]:
    """Return the rules with their state decided, in order, each beside those already on.

    `by_fold` are the rules of each fold, found and fitted on all others. How sure a rule's rise is, is judged by
    itself, so that the levels of all rules can be set together.
    """
    base, fitted_ones = training.evidence.base_labels(), [one.rule.rescued for one in rules if one.state == "on"]

    def comparison(before: Labels, rescued: set[str], spared: str) -> tuple[Labels, Comparison]:
        given = cross_fitted_labels(training, by_fold, rescued)
        return given, compare(training, before, given, spared)

    alone = {code: comparison(base, {code}, code)[1].without_rise for code in fitted_ones}
    allowed = holm(alone, LEVEL)
    accepted, labels, decided = set[str](), base, []
    for fitted in rules:
        code = fitted.rule.rescued
        if fitted.state == "on":
            given, found = comparison(labels, accepted | {code}, code)
            on, reason = decide(found, alone[code], allowed[code], settings)
            untried = never_tried(code, by_fold)
            if untried and not on:
                decided.append(fitted.model_copy(update={"state": "off", "reason": untried}))
                continue
            update = {
                "macro_f1_without": found.before, "macro_f1_with": found.after, "changed": found.changed,
                "without_rise": alone[code], "reason": reason, "state": "on" if on else "off",
            }  # fmt: skip
            fitted = fitted.model_copy(update=update)
            if on:
                accepted, labels = accepted | {code}, given
        decided.append(fitted)
    return decided
