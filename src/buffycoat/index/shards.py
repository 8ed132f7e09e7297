"""Parquet files with images inside, as data hubs hold them, and WBCBench's full release: a row is an image."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from buffycoat.core.errors import InputError
from buffycoat.index.forms import HUB_PARTS, is_image_type, shards_of
from buffycoat.index.settings import Columns
from buffycoat.index.words import part_of

HUB_COLUMNS = ("image", "image_id", "label", "wbcbench_split", "severity", "original_image_id", "patient_hash")
"""The columns of WBCBench's full release, in both of its parts."""
FIELDS = ["image_id", "file", "in_column", "in_row", "label", "group", "split", "role", "severity", "original"]
"""What is known of every row."""


def shard_rows(data: str, is_hub: bool, columns: Columns) -> pd.DataFrame:
    """Return the images of Parquet files, in order of file and row, with the columns FIELDS (text; missing is None).

    Raises InputError where a file cannot be read, or has no column of images or none that is named.
    """
    files = shards_of(Path(data))
    if not files:
        raise InputError(f"data: {data}: no Parquet files there")
    top = Path(data) if Path(data).is_dir() else Path(data).parent
    frames = [_hub_rows(path) if is_hub else _own_rows(path, top, columns) for path in files]
    frame = pd.concat(frames, ignore_index=True)
    if is_hub:
        return _texts_as_objects(with_originals(frame))
    if frame["image_id"].isna().any() or frame["image_id"].duplicated().any():
        # Without names of their own, rows are named by their place.
        names = _short_names(files)
        frame["image_id"] = [
            f"{names[file]}#{row + 1}" for file, row in zip(frame["file"], frame["in_row"], strict=True)
        ]
    return _texts_as_objects(frame)


def _texts_as_objects(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns FIELDS with None where there is no text."""
    texts = frame[FIELDS].astype({name: object for name in FIELDS if name != "in_row"})
    return texts.where(texts.notna(), None).astype({"in_row": "int64"})


def _short_names(files: list[Path]) -> dict[str, str]:
    """Return the files' names, with the folders that they need to be told apart."""
    twice = len({file.name for file in files}) < len(files)
    return {str(file): "/".join(file.parts[-2:]) if twice else file.name for file in files}


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise InputError(f"{path}: not a readable Parquet file ({problem})") from None


def image_column(schema: pa.Schema, named: str, path: Path) -> str:
    """Return the column of images: the named one, or else the only one; raises InputError where there is none."""
    held = [field.name for field in schema if is_image_type(field.type)]
    if named in held:
        return named
    if len(held) == 1:
        return str(held[0])
    named = ", ".join(held or schema.names)
    found = f"several columns of images ({named})" if held else f"no column of images ({named})"
    raise InputError(f"{path}: {found}; name yours in index.columns.image")


def _texts(path: Path, name: str, schema: pa.Schema) -> list[str | None]:
    """Return a column as stripped text, None where there is none; numbers of classes as the names they stand for."""
    kind = schema.field(name).type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise InputError(f"{path}: column '{name}' holds {kind}, not texts or numbers")
    try:
        values = _read(path, name)[name].to_pylist()
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise InputError(f"{path}: column '{name}' cannot be read ({problem})") from None
    names = _names_of(schema, name)
    if names and pa.types.is_integer(kind):
        # Minus one stands for a label that is kept back.
        values = [names[value] if value is not None and 0 <= value < len(names) else None for value in values]
    return [None if value is None else str(value).strip() or None for value in values]


def _read(path: Path, column: str) -> pa.Table:
    """Return one column, or one field of a struct, without the bytes of the images."""
    with pq.ParquetFile(path) as file:
        return file.read(columns=[column])


def _names_of(schema: pa.Schema, column: str) -> list[str]:
    """Return the names of classes that the library `datasets` notes for a column of numbers; none without a note."""
    try:
        noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = noted["info"]["features"][column]["names"]
    except (ValueError, LookupError, TypeError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _rows_in(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise InputError(f"{path}: not a readable Parquet file ({problem})") from None


def _split_of_name(path: Path, top: Path) -> str | None:
    """Return the part that a file's name, or a folder below `top`, tells, as `test-00000-of-00002.parquet` does."""
    words = [*re.split(r"[\W_]+", path.stem), *path.relative_to(top).parts[:-1]]
    return next((word for word in words if part_of(word)), None)


def _own_rows(path: Path, top: Path, columns: Columns) -> pd.DataFrame:
    schema = _schema(path)
    images, count = image_column(schema, columns.image, path), _rows_in(path)

    def texts(name: str | None, default: str | None) -> list[str | None]:
        if name is not None and name in schema.names:
            return _texts(path, name, schema)
        if name is not None and name != default:
            raise InputError(f"{path}: no column '{name}' (found: {', '.join(schema.names)}); see index.columns")
        return [None] * count

    frame = pd.DataFrame({"image_id": _paths(path, images, schema, count), "file": str(path)}, dtype=object)
    frame["label"] = texts(columns.label, Columns.model_fields["label"].default)
    frame["group"] = texts(columns.group or "group", "group")
    split = columns.split if columns.split in schema.names or columns.split != "split" else None
    named = _split_of_name(path, top) if columns.split else None
    frame["split"] = texts(split, None) if split else named
    frame["role"] = ["test" if part_of(value or "") == "test" else "train" for value in frame["split"]]
    frame["severity"] = texts("severity", "severity")
    return frame.assign(in_column=images, in_row=range(count), original=None)


def _paths(path: Path, column: str, schema: pa.Schema, count: int) -> list[str | None]:
    """Return the names that the images have inside their file, None where they have none."""
    kind = schema.field(column).type
    if not pa.types.is_struct(kind) or kind.get_field_index("path") < 0:
        return [None] * count
    values = _read(path, f"{column}.path")[column].to_pylist()
    return [str(value["path"]).strip() or None if value and value["path"] is not None else None for value in values]


def _hub_rows(path: Path) -> pd.DataFrame:
    """Return the rows of one file of WBCBench's full release; ids begin with the part that the file is of."""
    schema = _schema(path)
    missing = [name for name in HUB_COLUMNS if name not in schema.names]
    if missing:
        raise InputError(
            f"{path}: no column {', '.join(missing)} (found: {', '.join(schema.names)}); WBCBench's full release has"
            f" {', '.join(HUB_COLUMNS)}"
        )
    if not is_image_type(schema.field("image").type):
        raise InputError(f"{path}: column 'image' holds {schema.field('image').type}, not the bytes of images")
    part = next((part for part in HUB_PARTS if part in path.parts[-2:]), HUB_PARTS[0])
    texts = {name: _texts(path, name, schema) for name in HUB_COLUMNS[1:]}
    for row, name in enumerate(texts["image_id"], start=1):
        if name is None:
            raise InputError(f"{path}: row {row}: the image_id is empty")
    frame = pd.DataFrame(texts, dtype=object).rename(columns={"wbcbench_split": "split", "patient_hash": "group"})
    frame["own_id"], frame["part"] = frame["image_id"], part
    frame["image_id"] = [f"{part}/{name}" for name in texts["image_id"]]
    frame["role"] = ["test" if part_of(value or "") == "test" else "train" for value in frame["split"]]
    return frame.assign(file=str(path), in_column="image", in_row=range(len(frame)))


def with_originals(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with `original`: the image_id of the pristine form of each degraded image, where it is there."""
    pristine = frame[frame["part"] == "pristine"]
    known = {**_first(pristine, "original_image_id"), **_first(pristine, "own_id")}
    degraded = frame["part"] == "degraded"
    named = frame["original_image_id"].where(frame["original_image_id"].notna(), frame["own_id"])
    original = [known.get(name) if is_degraded else None for name, is_degraded in zip(named, degraded, strict=True)]
    return frame.assign(original=pd.Series(original, index=frame.index, dtype=object))


def _first(rows: pd.DataFrame, column: str) -> dict[Any, str]:
    held = rows[rows[column].notna()].drop_duplicates(column)
    return dict(zip(held[column], held["image_id"], strict=True))


def shards_digest(data: str, is_hub: bool, columns: Columns) -> str:
    """Return 16 hexadecimal digits that change with the rows of the files but not with their labels and groups.

    Of the images themselves the sizes of their stored columns count: pixels are compared when they are cut out. Never
    raises for a fault of a file: its step will say it.
    """
    try:
        rows = shard_rows(data, is_hub, columns).drop(columns=["label", "group"])
        places = rows[["file", "in_column"]].drop_duplicates().itertuples(index=False)
        sizes = [_stored_sizes(Path(file), column) for file, column in places]
    except InputError as problem:
        return hashlib.sha256(str(problem).encode()).hexdigest()[:16]
    return hashlib.sha256(json.dumps([rows.to_numpy().tolist(), sizes], default=str).encode()).hexdigest()[:16]


def _stored_sizes(path: Path, column: str) -> list[int]:
    """Return the bytes that each row group's images take up."""
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [group.column(place) for group in groups for place in range(group.num_columns)]
    return [chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.partition(".")[0] == column]
