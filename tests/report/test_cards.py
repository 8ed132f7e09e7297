from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from buffycoat.report.cards import Cards, rule_rows, top_three

CODES = ["LY", "PC", "PLY"]
ENTRY: dict[str, Any] = {
    "rule": "PC",
    "host": "LY",
    "phase_1": {"value": 0.615, "threshold": 0.55, "pass": True},
    "phase_2": {"value": 0.82, "threshold": 0.35, "pass": True},
    "phase_3": {
        "host": {"value": "LY", "allowed": ["LY", "VLY"], "pass": True},
        "area_px": {"value": 1234.5, "low": 800.0, "high": 1200.0, "pass": False},
        "mahalanobis": {"value": None, "threshold": None, "pass": False},
    },
    "verdict": "refused in phase 3",
}


class NoPictures:
    """Stands for the cells where a test looks at the words alone."""

    def card(self, image_id: str, side: int) -> str:
        return f"{image_id} {side}"


def branch(rows: list[list[float]], ids: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=CODES, index=ids or [f"{k}" for k in range(len(rows))])


def cards_of(b: pd.DataFrame, known: dict[str, str] | None = None) -> Cards:
    a = branch([[0.7, 0.2, 0.1]] * 6)
    return Cards(pd.Series(known or {}, dtype=object), [a, b], CODES, NoPictures(), 40)  # type: ignore[arg-type]


def labels_of(base: list[str], label: list[str], near: list[str | None]) -> pd.DataFrame:
    changed = np.array(base) != np.array(label)
    return pd.DataFrame({
        "image_id": [f"{k}" for k in range(len(base))], "base_label": base, "label": label, "changed": changed,
        "reason": np.where(changed, "because", ""), "near_miss": pd.Series(near, dtype=object),
        "near_miss_reason": [f"Nearly {code}, but." if code else "" for code in near], "trace": json.dumps([ENTRY]),
    })  # fmt: skip


def test_kinds_of_change_take_turns() -> None:
    labels = labels_of(["LY", "LY", "LY", "PLY", "LY"], ["PC"] * 5, [None] * 5)
    found = cards_of(branch([[0.1, 0.2, 0.7]] * 5), {"3": "LY"}).changed(labels, 2)
    assert [card["image_id"] for card in found] == ["0", "3"]
    assert [card["right"] for card in found] == [None, False]
    assert [card["before"] for card in found] == ["LY", "PLY"]


def test_a_card_holds_picture_both_branches_and_every_phase() -> None:
    (card,) = cards_of(branch([[0.1, 0.2, 0.7]]), {"0": "PC"}).changed(labels_of(["LY"], ["PC"], [None]), 5)
    assert (card["picture"], card["reason"], card["expert"], card["right"]) == ("0 40", "because", "PC", True)
    assert card["branch_a"] == "LY 0.700, PC 0.200, PLY 0.100"
    assert card["branch_b"] == "PLY 0.700, PC 0.200, LY 0.100"
    assert [rule["rule"] for rule in card["rules"]] == ["PC"]


def test_near_misses_are_the_likeliest_by_branch_b_in_turn() -> None:
    b = branch([[0, 0.5, 0], [0, 0.9, 0], [0, 0, 0.1], [0, 0.99, 0]])
    labels = labels_of(["LY"] * 4, ["LY", "LY", "LY", "PC"], ["PC", "PC", "PLY", None])
    found = cards_of(b).near_misses(labels, 9)
    assert [(card["image_id"], card["nearly"]) for card in found] == [("1", "PC"), ("2", "PLY"), ("0", "PC")]
    assert found[0]["reason"] == "Nearly PC, but."
    assert len(cards_of(b).near_misses(labels, 1)) == 1 and cards_of(b).near_misses(labels, 0) == []


def test_a_near_miss_without_an_embedding_comes_last() -> None:
    b = branch([[0, 0.01, 0]], ["1"])
    labels = labels_of(["LY", "LY"], ["LY", "LY"], ["PC", "PC"])
    found = cards_of(b).near_misses(labels, 9)
    assert [card["image_id"] for card in found] == ["1", "0"]
    assert found[1]["branch_b"] == "no embedding"


def test_the_evidence_of_a_rule_is_a_line_per_check() -> None:
    rows = rule_rows(ENTRY)
    assert (rows["rule"], rows["verdict"]) == ("PC", "refused in phase 3")
    told = [(line["phase"], line["value"], line["threshold"], line["passed"]) for line in rows["lines"]]
    assert told == [
        ("1", "0.615", "0.55", True),
        ("2", "0.82", "0.35", True),
        ("3", "LY", "LY or VLY", True),
        ("3", "1234", "800 to 1200", False),
        ("3", "–", "–", False),
    ]


def test_phases_not_reached_have_no_line() -> None:
    assert [line["phase"] for line in rule_rows({**ENTRY, "phase_2": None, "phase_3": None})["lines"]] == ["1"]
    assert [line["phase"] for line in rule_rows({**ENTRY, "phase_3": None})["lines"]] == ["1", "2"]


@pytest.mark.parametrize(("row", "words"), [([0.2, 0.2, 0.6], "PLY 0.600, LY 0.200, PC 0.200")])
def test_the_top_three_are_in_order_and_ties_in_that_of_the_classes(row: list[float], words: str) -> None:
    assert top_three(branch([row]), CODES, "0") == words


def test_the_rule_that_a_card_is_about_comes_first() -> None:
    labels = labels_of(["LY"], ["PC"], [None]).assign(trace=json.dumps([{**ENTRY, "rule": "PLY"}, ENTRY]))
    (card,) = cards_of(branch([[0.1, 0.2, 0.7]])).changed(labels, 5)
    assert [rule["rule"] for rule in card["rules"]] == ["PC", "PLY"]
