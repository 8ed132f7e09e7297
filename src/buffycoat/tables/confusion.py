"""Confusion matrices, a row per true and predicted class."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

CONFUSION = Table(
    name="confusion",
    key=("phase", "part", "true", "predicted"),
    columns=(
        Column("phase", pa.string(), "as in the table of metrics"),
        Column("part", pa.string(), "'out_of_fold' or 'test'"),
        Column("true", pa.string(), "class code given by the expert"),
        Column("predicted", pa.string(), "class code predicted"),
        Column("images", pa.int32(), "how many"),
    ),
)
