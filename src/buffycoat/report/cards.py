"""Cards of the refinement: a changed label, or one that nearly changed, with all that spoke for and against it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from buffycoat.report.sections import Cells

CHECKS = {
    "boosted_probability": "boosted probability (β p)",
    "embedding_probability": "embedding's probability",
    "host": "host",
    "host_probability": "host's probability",
    "spikiness": "contour spikiness",
    "mahalanobis": "Mahalanobis distance",
    "likeness": "morphology's log-odds",
    "area_px": "area, px",
    "cell_level": "grey level",
    "cell_level_sd": "spread of grey levels",
    "red_blue_ratio": "red-to-blue ratio",
    "nucleus_ratio": "nucleus-to-cell ratio",
}
"""Words for the checks of the trace."""


@dataclass(frozen=True)
class Cards:
    """What cards are made of: the expert's label by image, the two branches' probabilities by image, pictures."""

    known: pd.Series
    branches: list[pd.DataFrame]
    codes: list[str]
    cells: Cells
    side: int

    def changed(self, labels: pd.DataFrame, most: int) -> list[dict[str, Any]]:
        """Return the cards of changed labels; kinds of change take turns, so that none fills the page."""
        rows = labels[labels["changed"]]
        return [
            self._card(row, str(row.reason)) for row in in_turn(rows, ["base_label", "label"]).head(most).itertuples()
        ]

    def near_misses(self, labels: pd.DataFrame, most: int) -> list[dict[str, Any]]:
        """Return the cards of unchanged labels that one check alone kept, the likeliest by branch B first, in turn."""
        rows = labels[labels["near_miss"].notna()]
        chance = [_value(self.branches[1], str(row.image_id), str(row.near_miss)) for row in rows.itertuples()]
        rows = rows.assign(chance=chance).sort_values("chance", ascending=False, kind="stable")
        return [
            self._card(row, str(row.near_miss_reason)) for row in in_turn(rows, ["near_miss"]).head(most).itertuples()
        ]

    def _decisive_first(self, row: Any) -> list[dict[str, Any]]:
        """Return the trace, the rule that the card is about first."""
        about = row.near_miss if isinstance(row.near_miss, str) else row.label
        return sorted(json.loads(row.trace), key=lambda entry: bool(entry["rule"] != about))

    def _card(self, row: Any, sentence: str) -> dict[str, Any]:
        image_id = str(row.image_id)
        truth = self.known.get(image_id)
        return {
            "image_id": image_id,
            "picture": self.cells.card(image_id, self.side),
            "before": row.base_label,
            "after": row.label,
            "nearly": row.near_miss if isinstance(row.near_miss, str) else None,
            "reason": sentence,
            "branch_a": top_three(self.branches[0], self.codes, image_id),
            "branch_b": top_three(self.branches[1], self.codes, image_id),
            "expert": truth or "unknown",
            "right": None if truth is None else bool(truth == row.label),
            "rules": [rule_rows(entry) for entry in self._decisive_first(row)],
        }


def in_turn(rows: pd.DataFrame, kinds: list[str]) -> pd.DataFrame:
    """Return the rows so that kinds take turns, each in the order given."""
    return rows.loc[rows.groupby(kinds).cumcount().sort_values(kind="stable").index]


def _value(probabilities: pd.DataFrame, image_id: str, code: str) -> float:
    """Return a probability of branch B, -1 where the image has no embedding."""
    return float(probabilities[code].get(image_id, -1.0))


def top_three(probabilities: pd.DataFrame, codes: list[str], image_id: str) -> str:
    """Return the three most probable classes of an image, 'LY 0.710, VLY 0.200, PC 0.050'."""
    if image_id not in probabilities.index:
        return "no embedding"
    values = probabilities.loc[image_id, codes].to_numpy(np.float64)
    best = np.argsort(-values, kind="stable")[:3]
    return ", ".join(f"{codes[k]} {values[k]:.3f}" for k in best)


def rule_rows(entry: dict[str, Any]) -> dict[str, Any]:
    """Return one rule's evidence as lines of phase, check, value, threshold and verdict, and its own verdict."""
    lines = [_line("1", "boosted_probability", entry["phase_1"])]
    if entry["phase_2"] is not None:
        lines.append(_line("2", "embedding_probability", entry["phase_2"]))
    lines += [_line("3", name, check) for name, check in (entry["phase_3"] or {}).items()]
    return {"rule": entry["rule"], "verdict": entry["verdict"], "lines": lines}


def _line(phase: str, name: str, check: dict[str, Any]) -> dict[str, Any]:
    return {
        "phase": phase,
        "check": CHECKS.get(name, name),
        "value": _shown(check["value"]),
        "threshold": _threshold(check),
        "passed": check["pass"],
    }


def _threshold(check: dict[str, Any]) -> str:
    if "allowed" in check:
        return " or ".join(check["allowed"])
    if "low" in check:
        return f"{_shown(check['low'])} to {_shown(check['high'])}"
    return _shown(check.get("threshold"))


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
