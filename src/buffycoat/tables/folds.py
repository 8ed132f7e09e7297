"""Which fold holds out which trainable image; one row per trainable image."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

FOLDS = Table(
    name="folds",
    key=("image_id",),
    columns=(
        Column("image_id", pa.string(), "the image's name, unique in the data set"),
        Column("fold", pa.int32(), "the fold that holds this image out, from 0"),
    ),
)
