"""What the page of the ablation shows, as plain values for its template."""

from __future__ import annotations

from typing import Any

import pandas as pd

from buffycoat.cell_types import name_of
from buffycoat.recipes import RESTORATION_NAMES, WAY_NAMES
from buffycoat.report.branch_a import recipe_words
from buffycoat.report.comparing import COMPARED_SCORES, Way
from buffycoat.report.settings import CompareRecipes
from buffycoat.scores import DEFINITIONS

VARIANT_NAMES = {
    "single_folds": "single folds, one view",
    "one_view": "all folds, one view",
    "all_views": "all folds, all views",
    "restored": "the main recipe, on cells restored so",
    "after": "after the main recipe",
}


def score_text(row: dict[Any, Any]) -> str:
    """Return '0.771 [0.740, 0.800]', or '0.771 ± 0.012' for single folds."""
    if not pd.isna(row["low"]):
        return f"{row['value']:.4f} [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.4f}" + ("" if pd.isna(row["sd"]) else f" ± {row['sd']:.4f}")


def difference_text(row: dict[Any, Any]) -> str:
    """Return '+0.012 [-0.003, +0.020]', or nothing where there is no difference to tell."""
    if pd.isna(row["difference_low"]):
        return ""
    return f"{row['difference']:+.4f} [{row['difference_low']:+.3f}, {row['difference_high']:+.3f}]"


def verdict(row: dict[Any, Any]) -> str:
    """Return 'good', 'badly' or '': whether the interval of the difference lies above, below or around 0."""
    if pd.isna(row["difference_low"]):
        return ""
    return "good" if row["difference_low"] > 0 else "badly" if row["difference_high"] < 0 else ""


def comparison(table: pd.DataFrame, part: str, main: str) -> list[dict[str, Any]]:
    """Return the lines of a part: a name, the overall scores, and the difference of macro-F1 to the main recipe."""
    rows = table[(table["part"] == part) & (table["class"] == "all")]
    lines = []
    for (recipe, variant), group in rows.groupby(["recipe", "variant"], sort=False):
        scores = {row["metric"]: row for row in group.to_dict("records")}
        is_main = recipe == main and variant == "all_views"
        macro = scores["macro_f1"]
        lines.append(
            {
                "recipe": recipe,
                "variant": VARIANT_NAMES[str(variant)],
                "main": is_main,
                "scores": [score_text(scores[name]) for name in COMPARED_SCORES],
                "difference": "0" if is_main else difference_text(macro),
                "verdict": "soft" if is_main else verdict(macro),
            }
        )
    return lines


def by_class(table: pd.DataFrame, part: str, recipes: list[str], codes: list[str]) -> list[dict[str, Any]]:
    """Return a line per class: its images, and its F1 with the interval in each column (the best is marked)."""
    whole = table["variant"].isin(["all_views", "restored", "after"])
    rows = table[(table["part"] == part) & whole & (table["metric"] == "f1")]
    found = {(row["recipe"], row["class"]): row for row in rows.to_dict("records")}
    lines = []
    for code in codes:
        of_class = [found[recipe, code] for recipe in recipes]
        best = max(row["value"] for row in of_class)
        cells = [
            {
                "value": f"{row['value']:.3f}",
                "interval": f"[{row['low']:.2f}, {row['high']:.2f}]",
                "best": row["value"] == best > 0,
            }
            for row in of_class
        ]
        lines.append({"code": code, "name": name_of(code), "support": of_class[0]["support"], "cells": cells})
    return lines


def content(
    table: pd.DataFrame, ways: list[Way], codes: list[str], units: dict[str, str], settings: CompareRecipes
) -> dict[str, Any]:
    """Return everything that the page shows; `units`: what was resampled, by part."""
    parts = list(units)
    recipes = [way.recipe for way in ways if way.variant == "all_views"]
    after = [way.recipe for way in ways if way.variant == "after"]
    restored = [way.recipe for way in ways if way.variant == "restored"]
    return {
        "parts": parts,
        "main": recipes[0],
        "recipes": recipes,
        "after": after,
        "restored": restored,
        "described": {recipe: recipe_words(recipe) for recipe in recipes},
        "described_after": {way: WAY_NAMES.get(way, "") for way in after},
        "described_restored": {way: RESTORATION_NAMES[way] for way in restored},
        "score_names": [name.replace("_", " ").replace("f1", "F1") for name in COMPARED_SCORES],
        "definitions": [DEFINITIONS[name] for name in COMPARED_SCORES],
        "units": units,
        "resamples": settings.resamples,
        "percent": f"{100 * settings.confidence:.0f}",
        "comparisons": {part: comparison(table, part, recipes[0]) for part in parts},
        "classes": {part: by_class(table, part, recipes, codes) for part in parts},
        "classes_restored": {part: by_class(table, part, [recipes[0], *restored], codes) for part in parts},
        "classes_after": {part: by_class(table, part, [recipes[0], *after], codes) for part in parts},
    }
