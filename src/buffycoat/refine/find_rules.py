"""Which rules there are to fit: found among the rare classes, or given; each fitted on training cells."""

from __future__ import annotations

import logging

import numpy as np

from buffycoat.refine.fitting import Training, fit_references
from buffycoat.refine.rules import FittedRule
from buffycoat.refine.settings import FitRules, Rule
from buffycoat.refine.thresholds import fit_thresholds, off

log = logging.getLogger("buffycoat")


def rare_classes(training: Training, settings: FitRules) -> list[str]:
    """Return the classes with fewer than `rare_below` of the labelled cells, but any, the rarest first."""
    counts = {code: int((training.labels == code).sum()) for code in training.evidence.classes}
    most = settings.rare_below * len(training.labels)
    return sorted((code for code, count in counts.items() if 0 < count < most), key=lambda code: (counts[code], code))


def hosts_of(training: Training, code: str, settings: FitRules) -> tuple[str, ...]:
    """Return the classes that branch A gives at least `host_share` of the class's mistaken cells, in class order."""
    base = training.evidence.base_labels()
    given = base[(training.labels == code) & (base != code)]
    least = max(1.0, settings.host_share * len(given))
    return tuple(host for host in training.evidence.classes if np.count_nonzero(given == host) >= least)


def find_rules(training: Training, settings: FitRules) -> list[Rule]:
    """Return a rule without thresholds for each rare class of which branch A mistakes any cell, rarest first.

    Its rules only add: a cell that branch A gives the class keeps it.
    """
    rules = []
    for code in rare_classes(training, settings):
        hosts = hosts_of(training, code, settings)
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


def fit_given(training: Training, rule: Rule, suppressed: list[str], settings: FitRules) -> FittedRule:
    """Return the rule with its own thresholds and a reference per host; off where that cannot be fitted."""
    if not {"box", "mahalanobis"} & set(rule.gates):
        return FittedRule(rule=rule, state="on", reason="nothing to fit")
    references = fit_references(training, rule, suppressed, settings)
    if references is None:
        cells = int((training.labels[training.complete()] == rule.rescued).sum())
        return off(rule, f"{cells} measured training cells of {rule.rescued}, fewer than {settings.min_cells}")
    return FittedRule(rule=rule, state="on", reason="fitted", references=references)


def fit_every_rule(training: Training, settings: FitRules) -> list[FittedRule]:
    """Return every rule, fitted; those that cannot be used are off and say why."""
    rules = find_rules(training, settings) if settings.rules == "found" else settings.rules
    known = [restrict_rule(rule, training.evidence.classes) for rule in rules]
    suppressed = [rule.rescued for rule, problem in known if rule.suppress and not problem]

    def fit(rule: Rule) -> FittedRule:
        if settings.thresholds == "fitted":
            return fit_thresholds(training, rule, settings)
        return fit_given(training, rule, suppressed, settings)

    return [off(rule, problem) if problem else fit(rule) for rule, problem in known]
