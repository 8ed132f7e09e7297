"""Which rules are on: those that raise the out-of-fold macro-F1, judged by references fitted without the row's fold."""

from __future__ import annotations

import numpy as np

from buffycoat.refine.algorithm import Labels, apply_rules
from buffycoat.refine.fitting import Training, fit_rules
from buffycoat.refine.rulebook import FittedRule
from buffycoat.refine.settings import FitReference


def macro_f1(true: Labels, given: Labels, classes: tuple[str, ...]) -> float:
    """Return the mean F1 over `classes`, 0..1; a class that is neither true nor given anywhere counts as 0."""
    from sklearn.metrics import f1_score

    return float(f1_score(true, given, labels=list(classes), average="macro", zero_division=0))


def cross_fitted_rules(training: Training, settings: FitReference) -> dict[int, list[FittedRule]]:
    """Return, for each fold, the rules as fitted on all other folds."""
    return {int(fold): fit_rules(training.rows(training.folds != fold), settings) for fold in np.unique(training.folds)}


def cross_fitted_labels(training: Training, by_fold: dict[int, list[FittedRule]], rescued: set[str]) -> Labels:
    """Return the final label of each row by the rules of its fold, of which only those for `rescued` are used."""
    labels = training.evidence.base_labels()
    for fold, rules in by_fold.items():
        rows = training.folds == fold
        used = [fitted for fitted in rules if fitted.state == "on" and fitted.rule.rescued in rescued]
        labels[rows] = apply_rules(training.evidence.rows(rows), used).label
    return labels


def _decision(before: float, after: float, changed: int, settings: FitReference) -> tuple[bool, str]:
    measured = f"out-of-fold macro-F1 {before:.4f} without, {after:.4f} with it ({changed} labels changed)"
    if settings.switch == "always":
        return True, f"always on; {measured}"
    helps = after - before > settings.min_gain
    return helps, f"{'it helps' if helps else 'it does not help'}: {measured}"


def switch_rules(training: Training, rules: list[FittedRule], settings: FitReference) -> list[FittedRule]:
    """Return the rules with their state decided, in order, each beside those already on."""
    by_fold = cross_fitted_rules(training, settings)
    classes, accepted = training.evidence.classes, set[str]()
    labels = training.evidence.base_labels()
    decided = []
    for fitted in rules:
        if fitted.state == "on":
            tried = cross_fitted_labels(training, by_fold, accepted | {fitted.rule.rescued})
            before, after = (macro_f1(training.labels, given, classes) for given in (labels, tried))
            changed = int((tried != labels).sum())
            on, reason = _decision(before, after, changed, settings)
            update = {"macro_f1_without": before, "macro_f1_with": after, "changed": changed, "reason": reason}
            fitted = fitted.model_copy(update={**update, "state": "on" if on else "off"})
            if on:
                accepted, labels = accepted | {fitted.rule.rescued}, tried
        decided.append(fitted)
    return decided
