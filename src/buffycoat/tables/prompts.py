"""Embedding of each class's name by the text side of the encoder; no rows where it has none."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

PROMPTS = Table(
    name="prompts",
    key=("code",),
    columns=(
        Column("code", pa.string(), "class code"),
        Column("prompt", pa.string(), "the text that was embedded"),
        Column("embedding", pa.list_(pa.float32()), "unit-length vector of the encoder, in the space of the images'"),
    ),
)
