"""The model card says what the manifest says, and takes no text for markup."""

from __future__ import annotations

from typing import Any

from buffycoat.bundle.form import Manifest
from buffycoat.bundle.pack_bundle import model_card, plain
from buffycoat.bundle.settings import PackBundle
from buffycoat.data.drawn import MODEL_NOTE
from tests.bundle.test_form import CONTENT

ROW = {"part": "test", "class": "all", "metric": "macro_f1", "value": 0.5, "low": 0.4, "high": 0.6, "support": 9}


def card(settings: PackBundle, rules: list[dict[str, Any]], **changed: Any) -> str:
    content = {
        **CONTENT,
        "files": {},
        "settings": {"crop.crop_cells": {"window_px": 280}, "embed.embed_cells": {"encoder": "medsiglip"}},
        "training": {"images": 12, "groups": 3, "classes": {"LY": {"name": "lymphocyte", "images": 12}}},
        "scores": {"table": [ROW, {**ROW, "class": "LY", "metric": "f1", "value": None}]},
        **changed,
    }
    return model_card(Manifest.model_validate(content), {"rules": rules}, settings)


def test_the_card_holds_scores_with_intervals_data_rules_and_limits() -> None:
    rule = {"rule": {"rescued": "PC", "hides_in": ["LY", "VLY"]}, "state": "on", "reason": "It helps."}
    text = card(PackBundle(name="ward 3", description="May-Grünwald", licence="CC BY 4.0", contact="a@b"), [rule])
    for said in (
        "# ward 3", "| macro-F1 | 0.500 [0.400, 0.600] | 9 |", "| F1 of LY | undefined | 9 |",
        "12 images of 3 patients",
        "PC among LY, VLY: on. It helps.", "280 source pixels", "May-Grünwald", "Licence: CC BY 4.0 Contact: a@b.",
        "Research use only",
    ):  # fmt: skip
        assert said in text, said


def test_what_is_not_said_is_said_to_be_missing() -> None:
    text = card(
        PackBundle(), [], outside={"embed.embed_cells.weights": {"path": "w", "sha256": "0" * 64}},
        training={"images": 1, "groups": None, "classes": {}},
    )  # fmt: skip
    for said in ("Not described", "None stated", "patients unknown", "No rule", "--weights embed.embed_cells.weights="):
        assert said in text, said


def test_the_card_of_drawn_cells_says_so_first() -> None:
    text = card(PackBundle(), [], note=MODEL_NOTE)
    assert text.splitlines()[2] == f"**{MODEL_NOTE}**" and "the patients are made up" in text
    assert "drawn" not in card(PackBundle(), [])


def test_texts_are_no_markup() -> None:
    assert plain("<b>|x|\n# [y](z) `q`") == "&lt;b&gt;\\|x\\| \\# \\[y\\](z) \\`q\\`"
    text = card(PackBundle(name="<script>alert(1)</script>"), [])
    assert "<script>" not in text
