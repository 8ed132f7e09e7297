"""Clean training crops from which the synthetic pairs of restoration are made."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

PAIRS = Table(
    name="pairs",
    key=("image_id",),
    columns=(
        Column("image_id", pa.string(), "the image's name, unique in the data set"),
        Column("part", pa.string(), "'fit' (trained on) or 'held_out' (judged on)"),
    ),
)
