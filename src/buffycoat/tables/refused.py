"""Restorations that the guard refused: their pixels, kept so that a person can look at them."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

REFUSED = Table(
    name="refused",
    key=("image_id",),
    columns=(
        Column("image_id", pa.string(), "the image's name, unique in the data set"),
        Column("shard", pa.string(), "image shard, as a path relative to this table's folder"),
        Column("shard_row", pa.int32(), "row of the restored cell in its shard, from 0"),
        Column("crc32", pa.int64(), "CRC-32 of the restored crop's bytes followed by the mask's"),
    ),
)
