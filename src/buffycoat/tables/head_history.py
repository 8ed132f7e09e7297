"""The course of the heads' training, a row per fold and epoch."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

HEAD_HISTORY = Table(
    name="head_history",
    key=("fold", "epoch"),
    columns=(
        Column("fold", pa.int32(), "the fold held out; -1 for a head on everything"),
        Column("epoch", pa.int32(), "epoch, from 1"),
        Column("train_loss", pa.float64(), "mean training loss of the epoch"),
    ),
)
