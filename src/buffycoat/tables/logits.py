"""Logits of one fold's model, a row per image and view: the fold's held-out images and all that no fold trains on."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

LOGITS = Table(
    name="logits",
    key=(
        "image_id",
        "view",
    ),
    columns=(
        Column("image_id", pa.string(), "the image's name, unique in the data set"),
        Column("view", pa.int32(), "element of D4 that was applied, 0..7; 0 is the identity"),
        Column("fold", pa.int32(), "the fold whose model made the row"),
        Column("out_of_fold", pa.bool_(), "whether the image is a training image that this fold held out"),
    ),
    classes=pa.float32(),
)
