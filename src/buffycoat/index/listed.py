"""What a run must know of its data before a step reads them. No heavy imports for tables and folders of images."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from buffycoat.core.errors import InputError
from buffycoat.index.forms import table_has_boxes
from buffycoat.index.lists import kind_of
from buffycoat.index.settings import Index


class Listed(NamedTuple):
    """`rows` changes with the images that are listed, `said` with what boxes on fields are called.

    `others`: the names of boxes that are no white cells.
    """

    rows: str
    said: str = ""
    others: tuple[str, ...] = ()


def listed_inside(data: str, settings: Index) -> Listed | None:
    """Return what boxes on fields or Parquet files with images list; None for other data.

    Raises InputError where boxes cannot be read, or have but one class to learn.
    """
    kind = kind_of(data)
    if kind in ("shards", "wbcbench_hub"):
        from buffycoat.index.shards import shards_digest

        return Listed(shards_digest(data, kind == "wbcbench_hub", settings.columns))
    if kind == "boxes" or (kind == "table" and table_has_boxes(Path(data))):
        return _of_boxes(data, settings)
    return None


def _of_boxes(data: str, settings: Index) -> Listed | None:
    # These read tables by pandas, which other data need not wait for.
    from buffycoat.index import boxes, listings

    rows = listings.boxes_in(data, settings.columns, settings.make_index)
    if rows is None:
        return None
    if problem := boxes.one_class(rows, settings.make_labels):
        raise InputError(f"data: {data}: {problem}")
    others = boxes.names_left_out(set(rows["label"].dropna()), settings.make_labels)
    kept = rows[~rows["label"].isin(others)]
    return Listed(boxes.rows_without_labels(kept), boxes.rows_with_labels(kept), tuple(others))
