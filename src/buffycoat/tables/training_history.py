"""The course of one fold's training, a row per epoch."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

TRAINING_HISTORY = Table(
    name="training_history",
    key=("fold", "epoch"),
    columns=(
        Column("fold", pa.int32(), "the fold held out"),
        Column("epoch", pa.int32(), "epoch, from 1"),
        Column("train_loss", pa.float64(), "mean training loss of the epoch; null where nothing is trained", gaps=True),
        Column("held_out_loss", pa.float64(), "cross-entropy on the held-out fold, one view"),
        Column("held_out_macro_f1", pa.float64(), "macro-F1 on the held-out fold, one view, over all classes"),
        Column("images_per_s", pa.float64(), "training images per second; null where nothing is trained", gaps=True),
        Column("kept", pa.bool_(), "whether this epoch's weights were kept"),
    ),
)
