"""The sentence that explains a changed label to a person, made from the trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
