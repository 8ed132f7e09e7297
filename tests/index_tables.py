"""The tables of images and labels of a small data set, from one frame."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from buffycoat.data.tables.index import FILE_STATUSES, IMAGES, LABELS, with_places

BLANK = {"path": "x", "role": "train", "split": None, "width": None, "height": None, "sha256": None, "status": "ok",
         "reason": "", "label": None, "group": None}  # fmt: skip
"""What the columns hold that a frame leaves out."""


def write_index(rows: pd.DataFrame, folder: Path) -> None:
    """Write images.parquet and labels.parquet; `status` is the label's, and the file's where it is one of a file."""
    frame = rows.assign(**{name: value for name, value in BLANK.items() if name not in rows})
    LABELS.write(frame[[column.name for column in LABELS.columns]], folder / "labels.parquet")
    sound = ~frame["status"].isin(FILE_STATUSES)
    frame = frame.assign(status=frame["status"].mask(sound, "ok"), reason=frame["reason"].mask(sound, ""))
    IMAGES.write(with_places(frame)[[column.name for column in IMAGES.columns]], folder / "images.parquet")
