"""Where an image is: in a file, or in a row of a Parquet file that holds images; and the box of a cell in it."""

from __future__ import annotations

import functools
import os
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from buffycoat.data.images import ImageProblem
from buffycoat.data.tables.index import BOX

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, pixels of the field."""
_ONE_READER = threading.Lock()
"""Threads that want rows of one group wait for the one that reads it, instead of reading it again."""


class Location(NamedTuple):
    """A file, and where it is a Parquet file that holds images, the column and the row (from 0)."""

    path: str
    column: str | None = None
    row: int | None = None

    def __str__(self) -> str:
        """Return the place for a message."""
        return self.path if self.row is None else f"{self.path}: row {self.row + 1}"


def locations_of(rows: pd.DataFrame) -> list[Location]:
    """Return the place of each row that has a path; without the columns in_column and in_row, all are whole files."""
    if "in_row" not in rows.columns:
        return [Location(str(path)) for path in rows["path"]]
    inside = rows["in_row"].notna()
    numbers = rows["in_row"].where(inside, 0).astype("int64")
    return [
        Location(str(path), str(column), int(number)) if held else Location(str(path))
        for path, column, number, held in zip(rows["path"], rows["in_column"], numbers, inside, strict=True)
    ]


def boxes_of(rows: pd.DataFrame) -> list[Box | None]:
    """Return the box of each row, None where the cell has none; without the columns of a box, none has one."""
    if any(name not in rows.columns for name in BOX):
        return [None] * len(rows)
    values = rows[list(BOX)].to_numpy(np.float64)
    return [None if np.isnan(box).any() else (box[0], box[1], box[2], box[3]) for box in values.tolist()]


def read_encoded(place: Location) -> bytes:
    """Return the encoded bytes of an image; raises OSError as reading a file does, and ImageProblem for a bad row."""
    if place.row is None or place.column is None:
        return Path(place.path).read_bytes()
    known = os.stat(place.path)
    stamp = (known.st_mtime_ns, known.st_size)
    try:
        with _ONE_READER:
            starts = _group_starts(place.path, stamp)
            group = int(np.searchsorted(starts, place.row, side="right")) - 1
            column = _group(place.path, stamp, place.column, group)
            value = column[place.row - starts[group]].as_py()
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, MemoryError) as problem:
        # Arrow raises whatever it stumbles on in a damaged file.
        raise ImageProblem("unreadable", f"row {place.row + 1} of the file cannot be read ({problem})") from None
    data = value.get("bytes") if isinstance(value, dict) else value
    if data is None:
        raise ImageProblem("missing", f"row {place.row + 1} of the file holds no image")
    return bytes(data)


@functools.lru_cache(maxsize=64)
def _group_starts(path: str, _: tuple[int, int]) -> list[int]:
    """Return the first row of each row group."""
    metadata = pq.read_metadata(path)
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return [0, *np.cumsum(sizes)[:-1].tolist()]


@functools.lru_cache(maxsize=2)
def _group(path: str, _: tuple[int, int], column: str, group: int) -> pa.ChunkedArray:
    """Return one row group of a column of images: rows that follow each other read it once."""
    with pq.ParquetFile(path) as file:
        return file.read_row_group(group, columns=[column])[column]
