"""The cell that every model sees: restored or original, and why."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

CELLS = Table(
    name="cells",
    key=("image_id",),
    columns=(
        Column("image_id", pa.string(), "the image's name, unique in the data set"),
        Column("shard", pa.string(), "image shard, as a path relative to this table's folder"),
        Column("shard_row", pa.int32(), "row of the cell in its shard, from 0"),
        Column(
            "crc32", pa.int64(), "CRC-32 of the crop's bytes followed by the mask's; finds a damaged or replaced shard"
        ),
        Column("restored", pa.bool_(), "whether the pixels are the restored ones"),
        Column("noise_before", pa.float32(), "noise score of the crop, grey levels"),
        Column(
            "noise_after",
            pa.float32(),
            "noise score after restoration, grey levels; null where none was tried",
            gaps=True,
        ),
        Column(
            "nucleus_change",
            pa.float32(),
            "by what share restoration would change the nucleus's area, -1 (gone) .. ; null where none was tried",
            gaps=True,
        ),
        Column(
            "cell_change",
            pa.float32(),
            "by what share restoration would change the cell's area, -1 (gone) .. ; null where none was tried",
            gaps=True,
        ),
        Column("reason", pa.string(), "why the crop was restored, kept or refused"),
    ),
)
