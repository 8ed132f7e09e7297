"""Algorithm 1 of arXiv 2603.16249 on arrays: suppression, then three phases per rule, in the order of the rules."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from buffycoat.refine import gates
from buffycoat.refine.gates import Check, Flags, Values
from buffycoat.refine.rules import FittedRule

Entry = dict[str, Any]

FEATURES = {
    "area_px": "the area",
    "cell_level": "the mean grey level",
    "cell_level_sd": "the spread of grey levels",
    "red_blue_ratio": "the red-to-blue ratio",
    "nucleus_ratio": "the nucleus-to-cell ratio",
}
"""Words for the features of the gate `box`."""
UNMEASURED = {"mahalanobis": "the distance from the reference", "likeness": "the morphology"}
"""Words for the checks whose value cannot be computed where a measurement is missing."""


def _shown(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _passed(name: str, entry: Entry, rescued: str, host: str) -> str | None:
    """Return the clause of a passed check; None for those that are told together or go without saying."""
    value = entry["value"]
    if name == "boosted_probability":
        return f"boosted probability {_shown(value)} > {_shown(entry['threshold'])}"
    if name == "embedding_probability":
        return f"the embedding branch gives {rescued} {_shown(value)} > {_shown(entry['threshold'])}"
    if name == "spikiness":
        return f"contour spikiness {_shown(value)} > {_shown(entry['threshold'])}"
    if name == "mahalanobis":
        return f"distance {_shown(value)} from the reference of {rescued} <= {_shown(entry['threshold'])}"
    if name == "likeness":
        return f"the morphology's log-odds of {rescued} {_shown(value)} >= {_shown(entry['threshold'])}"
    if name == "host_probability" and entry["threshold"] < 1:
        return f"the probability of {host} is only {_shown(value)} < {_shown(entry['threshold'])}"
    return None


def _failed(name: str, entry: Entry, rescued: str, host: str) -> str:
    """Return the clause of a failed check."""
    value = entry["value"]
    if name == "host":
        return f"{host} is not a class that {rescued} hides in"
    if name == "embedding_probability" and value is None:
        return "the cell has no embedding"
    if value is None:
        what = UNMEASURED.get(name, FEATURES.get(name, name))
        return f"{what} could not be measured"
    if name in FEATURES:
        return f"{FEATURES[name]} {_shown(value)} is not within {_shown(entry['low'])} to {_shown(entry['high'])}"
    threshold = _shown(entry["threshold"])
    return {
        "boosted_probability": f"the boosted probability {_shown(value)} is not above {threshold}",
        "embedding_probability": f"the embedding branch gives {rescued} {_shown(value)}, not above {threshold}",
        "host_probability": f"the probability of {host}, {_shown(value)}, is not below {threshold}",
        "spikiness": f"the contour spikiness {_shown(value)} is not above {threshold}",
        "mahalanobis": f"the distance {_shown(value)} from the reference of {rescued} is above {threshold}",
        "likeness": f"the morphology's log-odds of {rescued}, {_shown(value)}, are below {threshold}",
    }[name]


def _checks(entry: Entry) -> list[tuple[str, Entry]]:
    """Return the checks that were reached, in order, by name."""
    reached = [("boosted_probability", entry["phase_1"])]
    if entry["phase_2"] is not None:
        reached.append(("embedding_probability", entry["phase_2"]))
    return reached + list((entry["phase_3"] or {}).items())


def why_rescued(entry: Entry) -> str:
    """Return the clauses of all that spoke for the rescued class."""
    checks = _checks(entry)
    clauses = [_passed(name, check, entry["rule"], entry["host"]) for name, check in checks]
    if any(name in FEATURES for name, _ in checks):
        clauses.append("size, grey levels, colour and nucleus within the fitted ranges")
    return "; ".join(clause for clause in clauses if clause)


def why_refused(entry: Entry) -> str:
    """Return the clause of the first check that failed."""
    name, check = next((name, check) for name, check in _checks(entry) if not check["pass"])
    return _failed(name, check, entry["rule"], entry["host"])


def explain(base: str, label: str, trace: Sequence[Entry]) -> str:
    """Return why `base` became `label`, in one sentence; '' where they are the same."""
    if base == label:
        return ""
    by_rule = {entry["rule"]: entry for entry in trace}
    if label in by_rule and by_rule[label]["verdict"] == "rescued":
        return f"Relabelled {base} → {label}: {why_rescued(by_rule[label])}."
    return f"Relabelled {base} → {label}: {base} is given only with evidence, and {why_refused(by_rule[base])}."


def explain_near_miss(entry: Entry) -> str:
    """Return, in one sentence, the check that alone kept a cell from being rescued."""
    return f"Nearly {entry['rule']}, but {why_refused(entry)}."


def _number(values: Values, row: int) -> float | None:
    """Return a value with six significant digits, which is what a reader can use; None for a gap."""
    value = float(values[row])
    return None if math.isnan(value) else float(f"{value:.6g}")


def check_entry(check: Check, row: int) -> Entry:
    """Return a check as value, threshold (or low and high), and whether it passed."""
    entry: Entry = {"value": _number(check.value, row)}
    if check.low is not None and check.high is not None:
        entry |= {"low": _number(check.low, row), "high": _number(check.high, row)}
    elif check.low is not None:
        entry["threshold"] = _number(check.low, row)
    elif check.high is not None:
        entry["threshold"] = _number(check.high, row)
    return {**entry, "pass": bool(check.at(row).passed()[0])}


def _phase_3(judged: Judged, host: str, row: int) -> Entry:
    allowed, is_host = list(judged.fitted.rule.hides_in), bool(judged.is_host[row])
    entries: Entry = {"host": {"value": host, "allowed": allowed, "pass": is_host}}
    if is_host:
        # Without a host there is no reference to compare with.
        entries |= {check.name: check_entry(check, row) for check in judged.phase_3}
    return entries


def _verdict(judged: Judged, label: str, row: int) -> str:
    for phase, passed in enumerate(judged.after, start=1):
        if not passed[row]:
            return f"refused in phase {phase}"
    return "rescued" if label == judged.fitted.rule.rescued else f"passed, but {label} comes first"


def rule_entry(outcome: Outcome, judged: Judged, row: int) -> Entry:
    """Return one rule's evidence for one cell; phases that were not reached are None."""
    first, second, _ = judged.after
    host = str(outcome.suppressed[row])
    return {
        "rule": judged.fitted.rule.rescued,
        "host": host,
        "phase_1": check_entry(judged.phase_1, row),
        "phase_2": check_entry(judged.phase_2, row) if first[row] else None,
        "phase_3": _phase_3(judged, host, row) if second[row] else None,
        "verdict": _verdict(judged, str(outcome.label[row]), row),
    }


def traced_rows(outcome: Outcome) -> Iterator[tuple[int, list[Entry]]]:
    """Yield (row, evidence) of each cell that is a candidate of a rule, or whose base label a rule took out."""
    shown = [one.after[0] | (outcome.base == one.fitted.rule.rescued) for one in outcome.judged]
    if shown:
        for row in np.flatnonzero(np.any(shown, axis=0)).tolist():
            yield row, [rule_entry(outcome, one, row) for one, on in zip(outcome.judged, shown, strict=True) if on[row]]


def near_misses(outcome: Outcome) -> Iterator[tuple[int, Entry]]:
    """Yield (row, evidence) of each unchanged candidate that one check alone kept from a rule, its first such rule."""
    seen = outcome.label != outcome.base
    for judged in outcome.judged:
        failed = np.sum([~check.passed() for check in (judged.phase_2, *judged.phase_3)], axis=0)
        near = judged.after[0] & judged.is_host & (failed == 1) & (outcome.label != judged.fitted.rule.rescued) & ~seen
        seen = seen | near
        for row in np.flatnonzero(near).tolist():
            yield row, rule_entry(outcome, judged, row)


Labels = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Evidence:
    """What the algorithm knows of n cells.

    `classes` (K codes, in order); `p` (n, K), probabilities of branch A; `s` (n, K), those of branch B, gaps (NaN)
    where there is no embedding; `features`, the columns of the table of morphology, (n,) each, gaps where unmeasured.
    """

    classes: tuple[str, ...]
    p: Values
    s: Values
    features: dict[str, Values]

    def rows(self, chosen: Flags) -> Evidence:
        """Return the evidence of some of the cells."""
        features = {name: values[chosen] for name, values in self.features.items()}
        return Evidence(self.classes, self.p[chosen], self.s[chosen], features)

    def base_labels(self) -> Labels:
        """Return branch A's most probable class, (n,)."""
        return np.asarray(np.array(self.classes)[self.p.argmax(axis=1)])

    def column(self, code: str) -> int:
        """Return the position of a class."""
        return self.classes.index(code)


@dataclass(frozen=True)
class Judged:
    """One rule applied to n cells; `phase_3` holds every check but that of the host class."""

    fitted: FittedRule
    phase_1: Check
    phase_2: Check
    is_host: Flags
    phase_3: tuple[Check, ...]

    @cached_property
    def after(self) -> tuple[Flags, Flags, Flags]:
        """Which cells have passed phase 1, phases 1 and 2, all three."""
        first = self.phase_1.passed()
        second = first & self.phase_2.passed()
        third = second & self.is_host
        for check in self.phase_3:
            third = third & check.passed()
        return first, second, third


@dataclass(frozen=True)
class Outcome:
    """The labels of n cells: base, y0 and q of Algorithm 1, and after each phase; and each rule's evidence."""

    base: Labels
    suppressed: Labels
    q: Values
    phases: tuple[Labels, Labels, Labels]
    judged: tuple[Judged, ...]

    @property
    def label(self) -> Labels:
        """The final label."""
        return self.phases[2]


def suppress(evidence: Evidence, rescued: Sequence[str]) -> tuple[Labels, Values]:
    """Return y0, the most probable class that is not one of `rescued`, and its probability q, (n,) each.

    The paper takes the second class where a rescued one comes first; with two rescued classes the second may be
    rescued too, so all of them are taken out.
    """
    left = evidence.p.copy()
    left[:, [evidence.column(code) for code in rescued]] = -1.0
    first = left.argmax(axis=1)
    return np.array(evidence.classes)[first], evidence.p[np.arange(len(first)), first]


def judge(evidence: Evidence, fitted: FittedRule, y0: Labels, q: Values) -> Judged:
    """Return the checks of one rule on every cell."""
    rule, features = fitted.rule, evidence.features
    position = evidence.column(rule.rescued)
    checks = [gates.host_probability(q, rule.max_host_probability)]
    if "spikiness" in rule.gates:
        checks.append(gates.spikiness_gate(features["spikiness"], rule.min_spikiness))
    if "box" in rule.gates:
        checks += gates.box_gate(features, y0, fitted.references)
    if "mahalanobis" in rule.gates:
        checks.append(gates.mahalanobis_gate(features, y0, fitted.references))
    if "likeness" in rule.gates:
        if fitted.likeness is None:
            raise ValueError(f"the rule for {rule.rescued} has the gate likeness, but no discriminant")
        checks.append(gates.likeness_gate(gates.log_odds(features, fitted.likeness), fitted.likeness.least))
    return Judged(
        fitted=fitted,
        phase_1=gates.boosting(evidence.p[:, position], q, rule.beta),
        phase_2=gates.verification(evidence.s[:, position], rule.tau),
        is_host=np.isin(y0, rule.hides_in),
        phase_3=tuple(checks),
    )


def apply_rules(evidence: Evidence, rules: Sequence[FittedRule]) -> Outcome:
    """Return the outcome of the rules, which all count as on; without any, every label is the base label.

    After each phase a cell carries the class of the first rule it has passed so far, otherwise y0.
    """
    y0, q = suppress(evidence, [fitted.rule.rescued for fitted in rules if fitted.rule.suppress])
    judged = tuple(judge(evidence, fitted, y0, q) for fitted in rules)
    phases = [y0.copy() for _ in range(3)]
    for one in reversed(judged):
        # From the last rule to the first, so that the first has the last word.
        for labels, passed in zip(phases, one.after, strict=True):
            labels[passed] = one.fitted.rule.rescued
    return Outcome(evidence.base_labels(), y0, q, (phases[0], phases[1], phases[2]), judged)
