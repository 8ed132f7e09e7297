"""The images of any kind of data: whole files, images inside Parquet files, and cells in boxes on fields."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from buffycoat.index.boxes import annotated_rows, rows_of, table_boxes, white_cells
from buffycoat.index.forms import columns_of_boxes
from buffycoat.index.lists import kind_of
from buffycoat.index.places import Finder
from buffycoat.index.settings import Columns, MakeIndex
from buffycoat.index.shards import shard_rows
from buffycoat.index.sources import (
    SETTINGS,
    Listing,
    case_notes,
    column_of,
    found_files,
    own_groups,
    own_split,
    read_listing,
    read_table,
    roles_of,
)
from buffycoat.index.words import held_column


def listing_of(data: str, columns: Columns, settings: MakeIndex, others: Sequence[str] = ()) -> Listing:
    """Return the images that the data list, files by their names on the disk; raises InputError as `read_listing` does.

    `others` are the names of boxes that are no white cells.
    """
    kind = kind_of(data)
    boxed = boxes_in(data, columns, settings)
    if boxed is not None:
        cells, line = white_cells(boxed, others, data)
        return Listing(cells.drop(columns=["label", "group"]), None, [*boxed.attrs["notes"], line])
    if kind not in ("shards", "wbcbench_hub"):
        return found_files(read_listing(data, columns, settings))
    listed = shard_rows(data, kind == "wbcbench_hub", columns).drop(columns=["label", "group"])
    told: list[str] = []
    if kind == "shards":
        listed["role"], told = roles_of(listed["split"].tolist(), settings.test_values, f"{data}: split")
    return Listing(listed, None, told)


def boxes_in(data: str, columns: Columns, settings: MakeIndex) -> pd.DataFrame | None:
    """Return a row per box (columns boxes.ROWS) of annotated fields or of a table with boxes; None for other data.

    `attrs` holds `notes`, what a person should know.
    """
    kind, root = kind_of(data), Path(settings.root) if settings.root else None
    if kind == "boxes":
        rows, empty = annotated_rows(Path(data), root)
        notes: list[str] = []
    elif kind == "table":
        path = Path(data)
        frame = read_table(path)
        if columns_of_boxes(frame.columns) is None:
            return None
        rows, empty, notes = _boxes_of_table(frame, path, columns, settings)
    else:
        return None
    if empty:
        notes.append(f"{data}: {len(empty)} fields or rows have no box, for instance {empty[0]}")
    rows.attrs = {"notes": notes}
    return rows


def _boxes_of_table(
    frame: pd.DataFrame, path: Path, columns: Columns, settings: MakeIndex
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Return the rows of a table's boxes, the images without one, and notes."""
    texts = {
        "image": column_of(frame, columns.image, path, SETTINGS["image"]),
        "label": column_of(frame, columns.label, path, SETTINGS["label"]),
        "group": own_groups(frame, columns.group, path),
        "split": own_split(frame, columns.split, path),
    }
    root = Path(settings.root) if settings.root else path.parent
    finder = Finder(root)
    files = {name: str(root / found[0]) for name in set(texts["image"]) if name and (found := finder.find(name))}
    boxes, empty = table_boxes(frame, path, texts, root)
    rows = rows_of([box._replace(file=files.get(box.field, box.file)) for box in boxes])
    where = f"{path}: column '{held_column(list(frame.columns), columns.split or '')}'"
    rows["role"], told = roles_of(rows["split"].tolist(), settings.test_values, where)
    used = [columns.image, columns.label, columns.split, columns.group]
    return rows, empty, [*frame.attrs["notes"], *case_notes(frame, used, path), *told]
