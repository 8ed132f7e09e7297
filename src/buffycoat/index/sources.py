"""Reading the lists of images: WBCBench's four CSVs, or any table. Everything is text, nothing is guessed."""

from __future__ import annotations

import codecs
import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from buffycoat.core.errors import InputError
from buffycoat.index.settings import MakeIndex

WBCBENCH_PARTS = {
    "phase1_label.csv": "phase1",
    "phase2_train.csv": "phase2/train",
    "phase2_eval.csv": "phase2/eval",
    "phase2_test.csv": "phase2/test",
}
"""Each list of the challenge and the folder its images lie in."""


@dataclass(frozen=True)
class Listing:
    """What a source says: a frame with image_id, file, label, split, group, role (text; missing is None)."""

    frame: pd.DataFrame
    root: Path
    test_labels: dict[str, str]


def read_text(path: Path) -> str:
    """Return a text file's content: UTF-8 with or without byte-order mark, UTF-16 with one, otherwise Latin-1."""
    try:
        data = path.read_bytes()
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({problem.strerror})") from None


def _require_names(header: list[str], path: Path) -> None:
    if "" in header or len(set(header)) != len(header):
        raise InputError(f"{path}: the header has an empty or repeated name: {header}")


def read_csv(path: Path) -> pd.DataFrame:
    """Return a CSV's rows as text; the index is the line in the file. Raises InputError on ragged rows."""
    csv.field_size_limit(1_000_000)
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append(cells)
                lines.append(reader.line_num)
    except csv.Error as problem:
        raise InputError(f"{path}: line {reader.line_num}: not valid CSV ({problem})") from None
    if not rows:
        raise InputError(f"{path}: the file is empty; it needs a header line and one line per image")
    header = rows[0]
    while header and not header[-1]:
        header = header[:-1]
    _require_names(header, path)
    for row, line in zip(rows[1:], lines[1:], strict=True):
        if len(row) < len(header) or any(row[len(header) :]):
            raise InputError(f"{path}: line {line}: {len(row)} values, but the header names {len(header)} columns")
    return pd.DataFrame([row[: len(header)] for row in rows[1:]], columns=header, index=lines[1:], dtype=object)


def _read_parquet(path: Path) -> pd.DataFrame:
    """Return a Parquet file's rows as they are, None where empty; the index counts them from 1."""
    try:
        # What pandas or Arrow noted beside the columns is left aside: an index of pandas is a column like others.
        _require_names(pq.read_schema(path).names, path)
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
    frame = _read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else read_csv(path)
    if frame.empty:
        raise InputError(f"{path}: no rows: the table needs at least one image")
    return frame


def _texts(column: pd.Series) -> list[str | None]:
    return [None if value is None else str(value).strip() or None for value in column]


def _column(frame: pd.DataFrame, name: str, path: Path, setting: str) -> list[str | None]:
    if name not in frame.columns:
        found = ", ".join(str(column) for column in frame.columns)
        raise InputError(f"{path}: no column '{name}' (found: {found}); name yours in index.make_index.{setting}")
    if any(isinstance(value, (bytes, list, dict, np.ndarray)) for value in frame[name].head(1)):
        raise InputError(f"{path}: column '{name}' holds {type(frame[name].iloc[0]).__name__}s, not texts or numbers")
    return _texts(frame[name])


def _check_ids(ids: list[str | None], lines: list[str]) -> list[str]:
    """Return the ids; raises InputError on an empty or a repeated one, naming both lines."""
    first: dict[str, str] = {}
    for image_id, line in zip(ids, lines, strict=True):
        if image_id is None:
            raise InputError(f"{line}: the image's name is empty")
        if image_id in first:
            raise InputError(f"{line}: the image '{image_id}' is listed twice (first: {first[image_id]}); keep one row")
        first[image_id] = line
    return [image_id for image_id in ids if image_id is not None]


def read_listing(settings: MakeIndex) -> Listing:
    """Return what the configured source lists; raises InputError on anything wrong with the lists themselves."""
    return _read_wbcbench(settings) if settings.source == "wbcbench" else _read_own(settings)


def _read_wbcbench(settings: MakeIndex) -> Listing:
    root = Path(str(settings.root))
    parts = []
    for name, folder in WBCBENCH_PARTS.items():
        path = root / name
        frame = read_csv(path)
        ids = _column(frame, "ID", path, "root")
        part = pd.DataFrame({"image_id": ids, "file": [f"{folder}/{image_id}" for image_id in ids]}, dtype=object)
        part["label"] = _column(frame, "labels", path, "root")
        part["split"] = _texts(frame["split"]) if "split" in frame.columns else folder.replace("/", "_")
        part["role"] = "test" if folder == "phase2/test" else "train"
        part["where"] = [f"{path}: line {line}" for line in frame.index]
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    if frame.empty:
        raise InputError(f"{root}: the four lists hold no images")
    frame["image_id"] = _check_ids(frame["image_id"].tolist(), frame["where"].tolist())
    frame["group"] = None
    frame.loc[frame["role"] == "test", "label"] = None
    return Listing(frame.drop(columns="where"), root, _read_answers(settings))


def _read_answers(settings: MakeIndex) -> dict[str, str]:
    if not settings.test_labels:
        return {}
    path = Path(settings.test_labels)
    frame = read_csv(path)
    ids, labels = _column(frame, "ID", path, "test_labels"), _column(frame, "labels", path, "test_labels")
    return {str(i): label for i, label in zip(ids, labels, strict=True) if label is not None}


def _read_own(settings: MakeIndex) -> Listing:
    path = Path(str(settings.table))
    frame = read_table(path)
    lines = [f"{path}: line {line}" for line in frame.index]
    ids = _check_ids(_column(frame, settings.image_column, path, "image_column"), lines)
    listed = pd.DataFrame({"image_id": ids, "file": ids}, dtype=object)
    listed["label"] = _column(frame, settings.label_column, path, "label_column")
    listed["split"] = _own_split(frame, settings, path)
    listed["group"] = _own_group(frame, settings, path)
    listed["role"] = ["test" if value in settings.test_values else "train" for value in listed["split"]]
    is_test = (listed["role"] == "test").to_numpy()
    answers = {
        str(image_id): str(label)
        for image_id, label in zip(listed["image_id"][is_test], listed["label"][is_test], strict=True)
        if label is not None
    }
    listed.loc[is_test, "label"] = None
    return Listing(listed, Path(settings.root) if settings.root else path.parent, answers)


def _own_split(frame: pd.DataFrame, settings: MakeIndex, path: Path) -> list[str | None]:
    if settings.split_column is None:
        return [None] * len(frame)
    # The default name may be absent; a name that the user chose may not. A rule hands on all settings, so the step
    # cannot tell which of them were set.
    default = MakeIndex.model_fields["split_column"].default
    if settings.split_column not in frame.columns and settings.split_column == default:
        return [None] * len(frame)
    return _column(frame, settings.split_column, path, "split_column")


def _own_group(frame: pd.DataFrame, settings: MakeIndex, path: Path) -> list[str | None]:
    if settings.group_column is not None:
        return _column(frame, settings.group_column, path, "group_column")
    return _texts(frame["group"]) if "group" in frame.columns else [None] * len(frame)
