"""Every rule, found or given, fitted on training cells."""

from __future__ import annotations

from buffycoat.refine.finding import find_rules
from buffycoat.refine.fitting import Training, fit_references
from buffycoat.refine.rulebook import FittedRule
from buffycoat.refine.settings import FitReference, Rule
from buffycoat.refine.thresholds import fit_thresholds, off


def restrict_rule(rule: Rule, classes: tuple[str, ...]) -> tuple[Rule, str]:
    """Return the rule with the hosts that this data set has, and why it cannot be used, or ''."""
    hosts = tuple(host for host in rule.hides_in if host in classes)
    if rule.rescued not in classes:
        return rule, f"this data set has no class {rule.rescued}"
    if not hosts:
        return rule, f"this data set has none of the classes that {rule.rescued} hides in"
    return rule.model_copy(update={"hides_in": hosts}), ""


def fit_given(training: Training, rule: Rule, suppressed: list[str], settings: FitReference) -> FittedRule:
    """Return the rule with its own thresholds and a reference per host; off where that cannot be fitted."""
    if not {"box", "mahalanobis"} & set(rule.gates):
        return FittedRule(rule=rule, state="on", reason="nothing to fit")
    references = fit_references(training, rule, suppressed, settings)
    if references is None:
        cells = int((training.labels[training.complete()] == rule.rescued).sum())
        return off(rule, f"{cells} measured training cells of {rule.rescued}, fewer than {settings.min_cells}")
    return FittedRule(rule=rule, state="on", reason="fitted", references=references)


def fit_rules(training: Training, settings: FitReference) -> list[FittedRule]:
    """Return every rule, fitted; those that cannot be used are off and say why."""
    rules = find_rules(training, settings) if settings.rules == "found" else settings.rules
    known = [restrict_rule(rule, training.evidence.classes) for rule in rules]
    suppressed = [rule.rescued for rule, problem in known if rule.suppress and not problem]

    def fit(rule: Rule) -> FittedRule:
        if settings.thresholds == "fitted":
            return fit_thresholds(training, rule, settings)
        return fit_given(training, rule, suppressed, settings)

    return [off(rule, problem) if problem else fit(rule) for rule, problem in known]
