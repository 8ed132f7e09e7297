"""Scores of branch B without training, on labelled training images."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

BASELINES = Table(
    name="baselines",
    key=("baseline", "class", "metric"),
    columns=(
        Column(
            "baseline",
            pa.string(),
            "'knn' (neighbours of other folds alone) or 'zero_shot' (nearest class name; absent without a text side)",
        ),
        Column("class", pa.string(), "class code, or 'all'"),
        Column("metric", pa.string(), "per class: precision, recall, f1; all: macro_f1, balanced_accuracy, accuracy"),
        Column("value", pa.float64(), "0..1; a class that is never predicted or absent counts 0"),
        Column("support", pa.int32(), "labelled training images of the class"),
    ),
)
