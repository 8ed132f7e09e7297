"""What `buffycoat predict` says: first what everybody must know of the model, then the verdict, then the counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from buffycoat.bundle.form import Manifest
from buffycoat.bundle.verdict import Verdict

PARTS = {"test": "test images", "out_of_fold": "training images, out of fold"}
"""Whose score is told: that of the test images, else that of the training images."""


def score_line(manifest: Manifest) -> str:
    """Return a sentence with the model's own macro-F1 and that of chance."""
    classes = len(manifest.classes)
    # Labels drawn by the classes' own shares have as F1 of a class its share: the mean is one over the classes.
    chance = f"chance is {1 / classes:.3f} ({classes} class{'es' * (classes != 1)})"
    rows = {row["part"]: row for row in manifest.scores.get("table", []) if _is_macro(row)}
    part = next((name for name in PARTS if name in rows), None)
    if part is None:
        return f"this model's own score is not known: no labelled image was left to test it on; {chance}"
    row, bounds, told = rows[part], "", ""
    if row["low"] is not None:
        bounds = f" [{row['low']:.3f}, {row['high']:.3f}]"
        told = "; no better than chance: do not use its labels" if row["low"] <= 1 / classes else ""
    return f"this model's macro-F1 on its {row['support']} {PARTS[part]} was {row['value']:.3f}{bounds}; {chance}{told}"


def _is_macro(row: dict[str, Any]) -> bool:
    return row["class"] == "all" and row["metric"] == "macro_f1" and row["value"] is not None


def counted(table: pd.DataFrame, names: dict[str, str]) -> str:
    """Return 'LY lymphocyte 12, SNE segmented neutrophil 3', the most frequent first; classes of one's own once."""
    counts = table["label"].value_counts()
    texts = [f"{code} {names[code]}" if names.get(code, code) != code else str(code) for code in counts.index]
    return ", ".join(f"{text} {count}" for text, count in zip(texts, counts, strict=True)) or "none"


def suspicions_line(table: pd.DataFrame) -> str:
    """Return how many images a person should look at, and for which reasons."""
    kinds = table.loc[table["suspect"], "kinds"].str.split(",").explode().value_counts()
    reasons = ", ".join(f"{kind.replace('_', ' ')} {count}" for kind, count in kinds.items())
    return f"{int(table['suspect'].sum())} to look at (column suspect)" + (f": {reasons}" if reasons else "")


def summary(table: pd.DataFrame, verdict: Verdict, manifest: Manifest, names: dict[str, str], out: Path) -> str:
    """Return what a person wants to know: the verdict, the counts, the model's own score, what has no label."""
    lost = table[table["label"].isna()]
    lines = [
        *verdict.lines(),
        f"{len(table)} image{'s' * (len(table) != 1)}, {int(table['changed'].sum())} labels changed by refinement,"
        f" {suspicions_line(table)}",
        f"labels: {counted(table, names)}",
        score_line(manifest),
    ]
    if not lost.empty:
        first = lost.iloc[0]
        lines.append(f"{len(lost)} without a label, first {first['image_id']}: {first['status']}, {first['reason']}")
    return "\n".join([*lines, f"written: {out}"])
