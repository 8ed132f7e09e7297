"""Reading the images of a table, of class folders or of WBCBench's lists. Everything is text, nothing is guessed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from buffycoat.core.errors import InputError
from buffycoat.index.boxes import annotated_rows, box_columns, rows_of, table_boxes, white_cells
from buffycoat.index.lists import (
    PARQUET,
    SPLITS,
    WBCBENCH_PARTS,
    class_folders,
    csv_rows,
    is_clutter,
    is_image,
    kind_of,
    require_names,
)
from buffycoat.index.settings import Columns, MakeIndex
from buffycoat.index.shards import shard_rows

log = logging.getLogger("buffycoat")


@dataclass(frozen=True)
class Listing:
    """The images that a source lists: a frame with image_id, file, split, role (text; missing is None).

    Rows of Parquet files and cells on fields have more columns (shards.FIELDS, boxes.ROWS). `root` is the folder that
    files are relative to, None where they are as they are.
    """

    frame: pd.DataFrame
    root: Path | None


def read_csv(path: Path) -> pd.DataFrame:
    """Return a CSV's rows as text; the index is the line in the file. Raises InputError on ragged rows."""
    header, rows, lines = csv_rows(path)
    return pd.DataFrame(rows, columns=header, index=lines, dtype=object)


def _read_parquet(path: Path) -> pd.DataFrame:
    """Return a Parquet file's rows as they are, None where empty; the index counts them from 1."""
    try:
        # What pandas or Arrow noted beside the columns is left aside: an index of pandas is a column like others.
        require_names(pq.read_schema(path).names, path)
        table = pq.read_table(path).replace_schema_metadata(None)
        frame = table.to_pandas(integer_object_nulls=True).astype(object)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, MemoryError) as problem:
        # Arrow raises whatever it stumbles on in a damaged file.
        raise InputError(f"{path}: not a readable Parquet file ({problem})") from None
    frame.index += 1
    values: pd.DataFrame = frame.where(frame.notna(), None)
    return values


def read_table(path: Path) -> pd.DataFrame:
    """Return the rows of a CSV or Parquet file; the index is the line or row, for messages."""
    frame = _read_parquet(path) if path.suffix.lower() in PARQUET else read_csv(path)
    if frame.empty:
        raise InputError(f"{path}: no rows: the table needs at least one image")
    return frame


def texts_of(column: pd.Series) -> list[str | None]:
    """Return a column's values as stripped text, None where there is none."""
    return [None if value is None else str(value).strip() or None for value in column]


def column_of(frame: pd.DataFrame, name: str, path: Path, setting: str | None = None) -> list[str | None]:
    """Return the texts of column `name` of the list `path`; raises InputError, naming `setting`, where it has none."""
    if name not in frame.columns:
        found = ", ".join(str(column) for column in frame.columns)
        advice = f"; name yours in {setting}" if setting else ""
        raise InputError(f"{path}: no column '{name}' (found: {found}){advice}")
    if any(isinstance(value, (bytes, list, dict, np.ndarray)) for value in frame[name].head(1)):
        raise InputError(f"{path}: column '{name}' holds {type(frame[name].iloc[0]).__name__}s, not texts or numbers")
    return texts_of(frame[name])


def checked_ids(ids: list[str | None], lines: list[str]) -> list[str]:
    """Return the ids; raises InputError on an empty or a repeated one, naming both lines."""
    first: dict[str, str] = {}
    for image_id, line in zip(ids, lines, strict=True):
        if image_id is None:
            raise InputError(f"{line}: the image's name is empty")
        if image_id in first:
            raise InputError(f"{line}: the image '{image_id}' is listed twice (first: {first[image_id]}); keep one row")
        first[image_id] = line
    return [image_id for image_id in ids if image_id is not None]


def read_listing(data: str, columns: Columns, settings: MakeIndex, others: Sequence[str] = ()) -> Listing:
    """Return the images that the data list; raises InputError on anything wrong with the lists themselves.

    `others` are the names of boxes that are no white cells.
    """
    kind = kind_of(data)
    boxed = boxes_in(data, columns, settings)
    if boxed is not None:
        return Listing(white_cells(boxed, others, data).drop(columns=["label", "group"]), None)
    if kind == "table":
        return _read_own(Path(data), columns, settings)
    if kind == "wbcbench":
        return _read_wbcbench(Path(data))
    if kind != "class folders":
        listed = shard_rows(data, kind == "wbcbench_hub", columns, settings.test_values)
        return Listing(listed.drop(columns=["label", "group"]), None)
    rows = folder_rows(Path(data))
    aside = sorted(file for file in _files_below(Path(data)) if not is_image(file.name))
    if aside:
        log.warning("%s: %d files are no images and left aside, for instance %s", data, len(aside), aside[0])
    held = sorted({str(split) for split in rows["split"].dropna() if SPLITS[split.lower()] == "val"})
    if held:
        log.info("%s: %s/ counts as training: folds are made of all training images", data, held[0])
    return Listing(rows.drop(columns="label"), Path(data))


def boxes_in(data: str, columns: Columns, settings: MakeIndex) -> pd.DataFrame | None:
    """Return a row per box (columns boxes.ROWS) of annotated fields or of a table with boxes; None for other data."""
    kind, root = kind_of(data), Path(settings.root) if settings.root else None
    if kind == "boxes":
        rows, empty = annotated_rows(Path(data), root)
        if empty:
            log.info("%s: %d fields have no box, for instance %s", data, len(empty), empty[0])
        return rows
    if kind != "table":
        return None
    path = Path(data)
    frame = read_table(path)
    if box_columns(frame.columns) is None:
        return None
    texts = {
        "image": column_of(frame, columns.image, path, "index.columns.image"),
        "label": column_of(frame, columns.label, path, "index.columns.label"),
        "group": own_groups(frame, columns.group, path),
        "split": _own_split(frame, columns.split, path),
    }
    boxes, empty = table_boxes(frame, path, texts, root or path.parent)
    if empty:
        log.info(
            "%s: %d rows have no box, for instance that of %s: no cell is taken from them", path, len(empty), empty[0]
        )
    return rows_of(boxes, settings.test_values)


def own_groups(frame: pd.DataFrame, column: str | None, path: Path) -> list[str | None]:
    """Return the texts of a table's column of patients, None where it has none."""
    if column is not None:
        return column_of(frame, column, path, "index.columns.group")
    return texts_of(frame["group"]) if "group" in frame.columns else [None] * len(frame)


def _read_wbcbench(root: Path) -> Listing:
    parts = []
    for name, folder in WBCBENCH_PARTS.items():
        path = root / name
        frame = read_csv(path)
        ids = column_of(frame, "ID", path)
        part = pd.DataFrame({"image_id": ids, "file": [f"{folder}/{image_id}" for image_id in ids]}, dtype=object)
        part["split"] = texts_of(frame["split"]) if "split" in frame.columns else folder.replace("/", "_")
        part["role"] = "test" if folder == "phase2/test" else "train"
        part["where"] = [f"{path}: line {line}" for line in frame.index]
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    if frame.empty:
        raise InputError(f"{root}: the four lists hold no images")
    frame["image_id"] = checked_ids(frame["image_id"].tolist(), frame["where"].tolist())
    return Listing(frame.drop(columns="where"), root)


def _read_own(path: Path, columns: Columns, settings: MakeIndex) -> Listing:
    frame = read_table(path)
    lines = [f"{path}: line {line}" for line in frame.index]
    ids = checked_ids(column_of(frame, columns.image, path, "index.columns.image"), lines)
    listed = pd.DataFrame({"image_id": ids, "file": ids}, dtype=object)
    listed["split"] = _own_split(frame, columns.split, path)
    listed["role"] = ["test" if value in settings.test_values else "train" for value in listed["split"]]
    return Listing(listed, Path(settings.root) if settings.root else path.parent)


def _files_below(root: Path) -> Iterator[Path]:
    """Yield every file below `root`, relative to it and without clutter; raises InputError at a link to a folder."""
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not is_clutter(name))
        for link in (Path(place) / name for name in folders):
            if link.is_symlink():
                raise InputError(f"{link}: a link to a folder, which is not followed; put the folder itself there")
        yield from (Path(place, name).relative_to(root) for name in names if not is_clutter(name))


def folder_rows(root: Path) -> pd.DataFrame:
    """Return image_id, file, label, split and role of the images of class folders; those beside these have no label."""
    divided = any(split is not None for split, _ in class_folders(root))
    rows = []
    for file in sorted(file for file in _files_below(root) if is_image(file.name)):
        *folders, _ = file.parts
        split = folders.pop(0) if divided and folders else None
        role = "test" if split and SPLITS[split.lower()] == "test" else "train"
        name = _utf8(file.as_posix(), root)
        rows.append((name, name, folders[0] if folders else None, split, role))
    return pd.DataFrame(rows, columns=["image_id", "file", "label", "split", "role"], dtype=object)


def _utf8(name: str, root: Path) -> str:
    """Return the name; raises InputError where a table could not hold it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{root}: the file name {ascii(name)} is not UTF-8; rename the file") from None
    return name


def _own_split(frame: pd.DataFrame, column: str | None, path: Path) -> list[str | None]:
    if column is None:
        return [None] * len(frame)
    # The default name may be absent; a name that the user chose may not. A rule hands on all settings, so the step
    # cannot tell which of them were set.
    if column not in frame.columns and column == Columns.model_fields["split"].default:
        return [None] * len(frame)
    return column_of(frame, column, path, "index.columns.split")
