"""Step `fit_rules`: the rules, found among the rare classes or given, fitted on training cells; which are on."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from buffycoat.core.steps import run
from buffycoat.data.labels import learned_rows
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, LABELS, class_codes, decodable
from buffycoat.refine.evidence import read_evidence, require_out_of_fold, training_cells
from buffycoat.refine.fitting import MIN_CELLS, Training, fit_references
from buffycoat.refine.rules import FittedRule, Rulebook, write_rulebook
from buffycoat.refine.settings import FitRules, Rule
from buffycoat.refine.switching import switch_rules
from buffycoat.refine.thresholds import fit_thresholds, off

log = logging.getLogger("buffycoat")
RARE_BELOW = 0.03
"""Share of the labelled images below which a class is rare, for rules that are found; ours."""
HOST_SHARE = 0.1
"""Share of a rare class's mistaken cells from which on a class is one that it hides in; ours."""


def rare_classes(training: Training) -> list[str]:
    """Return the classes with fewer than RARE_BELOW of the labelled cells, but any, the rarest first."""
    counts = {code: int((training.labels == code).sum()) for code in training.evidence.classes}
    most = RARE_BELOW * len(training.labels)
    return sorted((code for code, count in counts.items() if 0 < count < most), key=lambda code: (counts[code], code))


def hosts_of(training: Training, code: str) -> tuple[str, ...]:
    """Return the classes that branch A gives at least HOST_SHARE of the class's mistaken cells, in class order."""
    base = training.evidence.base_labels()
    given = base[(training.labels == code) & (base != code)]
    least = max(1.0, HOST_SHARE * len(given))
    return tuple(host for host in training.evidence.classes if np.count_nonzero(given == host) >= least)


def find_rules(training: Training) -> list[Rule]:
    """Return a rule without thresholds for each rare class of which branch A mistakes any cell, rarest first.

    Its rules only add: a cell that branch A gives the class keeps it.
    """
    rules = []
    for code in rare_classes(training):
        hosts = hosts_of(training, code)
        if not hosts:
            log.info("no rule for %s: branch A mistakes none of its training cells", code)
            continue
        gates = ("mahalanobis", "likeness")
        rules.append(Rule(rescued=code, hides_in=hosts, beta=1.0, tau=0.0, gates=gates, suppress=False))
    return rules


def restrict_rule(rule: Rule, classes: tuple[str, ...]) -> tuple[Rule, str]:
    """Return the rule with the hosts that this data set has, and why it cannot be used, or ''."""
    hosts = tuple(host for host in rule.hides_in if host in classes)
    if rule.rescued not in classes:
        return rule, f"this data set has no class {rule.rescued}"
    if not hosts:
        return rule, f"this data set has none of the classes that {rule.rescued} hides in"
    return rule.model_copy(update={"hides_in": hosts}), ""


def fit_given(training: Training, rule: Rule, suppressed: list[str]) -> FittedRule:
    """Return the rule with its own thresholds and a reference per host; off where that cannot be fitted."""
    if not {"box", "mahalanobis"} & set(rule.gates):
        return FittedRule(rule=rule, state="on", reason="nothing to fit")
    references = fit_references(training, rule, suppressed)
    if references is None:
        cells = int((training.labels[training.complete()] == rule.rescued).sum())
        return off(rule, f"{cells} measured training cells of {rule.rescued}, fewer than {MIN_CELLS}")
    return FittedRule(rule=rule, state="on", reason="fitted", references=references)


def fit_every_rule(training: Training, settings: FitRules) -> list[FittedRule]:
    """Return every rule, fitted; those that cannot be used are off and say why."""
    rules = find_rules(training) if settings.rules == "found" else settings.rules
    known = [restrict_rule(rule, training.evidence.classes) for rule in rules]
    suppressed = [rule.rescued for rule, problem in known if rule.suppress and not problem]

    def fit(rule: Rule) -> FittedRule:
        if settings.thresholds == "fitted":
            return fit_thresholds(training, rule, settings)
        return fit_given(training, rule, suppressed)

    return [off(rule, problem) if problem else fit(rule) for rule, problem in known]


def cross_fitted_rules(training: Training, settings: FitRules) -> dict[int, list[FittedRule]]:
    """Return, for each fold, the rules as found and fitted on all other folds."""
    return {
        int(fold): fit_every_rule(training.rows(training.folds != fold), settings) for fold in np.unique(training.folds)
    }


def fit_rulebook(training: Training, settings: FitRules) -> Rulebook:
    """Return the fitted and switched rules of training cells."""
    measured = ~np.isnan(training.evidence.features["spikiness"])
    by_fold = cross_fitted_rules(training, settings)
    rules = switch_rules(training, fit_every_rule(training, settings), by_fold, settings)
    on = {fitted.rule.rescued for fitted in rules if fitted.state == "on"}
    return Rulebook(
        rows=len(training.labels),
        without_embedding=int(np.isnan(training.evidence.s).any(axis=1).sum()),
        unmeasured=int((~measured).sum()),
        rules=tuple(rules),
        by_fold={
            fold: tuple(one for one in fitted if one.state == "on" and one.rule.rescued in on)
            for fold, fitted in by_fold.items()
        },
    )


def fit_rules(
    *,
    images: Path,
    labels: Path,
    classes: Path,
    folds: Path,
    probabilities: Path,
    head_probabilities: Path,
    morphology: Path,
    rules: Path,
    settings: FitRules,
) -> None:
    """Fit every rule on the trainable rows, decide which are on, and write them as JSON."""
    image_rows = IMAGES.read(images)
    ids, codes = decodable(image_rows)["image_id"], class_codes(CLASSES.read(classes))
    rows = learned_rows(image_rows, LABELS.read(labels), FOLDS.read(folds), codes)
    require_out_of_fold(probabilities, rows["image_id"])
    if settings.switch == "when_it_helps":
        require_out_of_fold(head_probabilities, rows["image_id"])
    evidence = read_evidence(
        ids,
        classes=classes,
        probabilities=probabilities,
        head_probabilities=head_probabilities,
        morphology=morphology,
    )
    training, _ = training_cells(ids, evidence, rows)
    rulebook = fit_rulebook(training, settings)
    for fitted in rulebook.rules:
        log.info("rule %s is %s: %s", fitted.rule.rescued, fitted.state, fitted.reason)
    write_rulebook(rulebook, rules)


if __name__ == "__main__":
    run(fit_rules)
