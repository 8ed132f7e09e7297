"""Algorithm 1 of arXiv 2603.16249 on arrays: suppression, then three phases per rule, in the order of the rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from buffycoat.refine import gates
from buffycoat.refine.gates import Check, Flags, Values
from buffycoat.refine.likeness import log_odds
from buffycoat.refine.rulebook import FittedRule

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
        checks.append(gates.likeness_gate(log_odds(features, fitted.likeness), fitted.likeness.least))
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
