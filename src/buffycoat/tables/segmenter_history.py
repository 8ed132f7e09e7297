"""The course of a segmenter's training, a row per judgement."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

SEGMENTER_HISTORY = Table(
    name="segmenter_history",
    key=("step",),
    columns=(
        Column("step", pa.int64(), "training steps done"),
        Column("loss", pa.float64(), "training loss, mean since the row before"),
        Column("cell_iou", pa.float64(), "held-out images: median intersection over union of the cell", gaps=True),
        Column("cell_iou_p10", pa.float64(), "held-out images: its 10th percentile", gaps=True),
        Column("nucleus_iou", pa.float64(), "held-out images: median of the nucleus; null without any", gaps=True),
        Column("missed", pa.float64(), "held-out images: share in which no cell was found", gaps=True),
    ),
)
