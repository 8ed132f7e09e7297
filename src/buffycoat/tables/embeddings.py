"""Embedding of each cell by the foundation model of branch B."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

EMBEDDINGS = Table(
    name="embeddings",
    key=("image_id",),
    columns=(
        Column("image_id", pa.string(), "the image's name, unique in the data set"),
        Column("embedding", pa.list_(pa.float32()), "unit-length vector of the encoder"),
    ),
)
