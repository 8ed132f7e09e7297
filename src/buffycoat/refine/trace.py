"""The evidence of one cell: each candidate class with each phase's value, threshold and verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from buffycoat.refine.algorithm import Judged, Outcome
from buffycoat.refine.gates import Check, Values

Entry = dict[str, Any]


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
