"""The primary white cell of each decodable image, and the course of the segmenter's training."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.data.tables.schema import IMAGE_ID, SHARD_PLACE, Column, Table

CROPS = Table(
    name="crops",
    key=("image_id",),
    columns=(
        IMAGE_ID,
        *SHARD_PLACE,
        Column("row", pa.float32(), "row of the window's centre in the source image, pixels"),
        Column("col", pa.float32(), "column of the window's centre in the source image, pixels"),
        Column("window_px", pa.int32(), "side of the square window in the source image, pixels"),
        Column(
            "found",
            pa.bool_(),
            "whether a white cell was found; otherwise the window is the image's centre and the mask is full, or the"
            " cell is the ellipse in its box",
        ),
        Column("masks", pa.int32(), "white cells found in the image, or around the box"),
        Column("touches_border", pa.bool_(), "whether the chosen cell touches the image's border"),
        Column(
            "area_px", pa.int32(), "area of the cell (or of its box's ellipse) in the source image, pixels; 0: none"
        ),
        Column(
            "nucleus_area_px", pa.int32(), "area of the nucleus in the source image, pixels; 0 where none was found"
        ),
        Column("reason", pa.string(), "why a fallback was used; empty where the cell was found"),
    ),
)

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
