"""Which images are meant: files, folders and tables become one row each, checked, with a status."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.index.checking import Finding, check_file
from buffycoat.index.sources import read_table

log = logging.getLogger("buffycoat")
TABLES = (".csv", ".parquet", ".pq")


def shown(name: str) -> str:
    """Return a file name as text that can be stored: bytes that are no UTF-8 as backslash escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _of_folder(folder: Path) -> list[dict[str, str]]:
    """Return a row for every file below a folder, in order of name; hidden ones are counted in the log."""
    files, hidden = [], 0
    for place, folders, names in os.walk(folder):
        hidden += sum(name.startswith(".") for name in [*folders, *names])
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(place) / name for name in names if not name.startswith(".")]
    if hidden:
        log.warning("%s: %d hidden files and folders (their names begin with a dot) are left out", folder, hidden)
    if not files:
        raise InputError(f"{folder}: holds no file")
    return [_row(str(file), str(file.relative_to(folder)), folder) for file in sorted(files)]


def _of_table(table: Path, column: str) -> list[dict[str, str]]:
    """Return a row for every row of a table, whose paths are relative to its folder."""
    frame = read_table(table)
    if column not in frame.columns:
        found = ", ".join(str(name) for name in frame.columns)
        raise InputError(f"{table}: no column {column!r} (found: {found}); name yours with --image-column")
    rows = []
    for line, name in zip(frame.index, frame[column], strict=True):
        if pd.isna(name) or not str(name).strip():
            raise InputError(f"{table}: line {line}: the image's name is empty")
        rows.append(_row(str(name).strip(), str(name).strip(), table.parent))
    return rows


def _row(image_id: str, name: str, root: Path) -> dict[str, str]:
    return {"image_id": shown(image_id), "name": name, "root": str(root)}


def listed(inputs: list[Path], image_column: str = "image") -> pd.DataFrame:
    """Return a row per image: image_id, name (below its root), root.

    A folder stands for every file below it, a CSV or Parquet table for its rows, any other path for one image, whether
    it exists or not. Raises InputError where nothing is given, a table is no table, or two images have one name.
    """
    rows: list[dict[str, str]] = []
    for given in inputs:
        if given.is_dir():
            rows += _of_folder(given)
        elif given.suffix.lower() in TABLES:
            rows += _of_table(given, image_column)
        else:
            # Whoever names a file means it, also where it is a link.
            real = Path(os.path.realpath(given))
            rows.append(_row(str(given), real.name, real.parent))
    if not rows:
        raise InputError("no images: name files, folders, or tables with a column of paths")
    # As objects: names that are no UTF-8 are no strings to Arrow.
    frame = pd.DataFrame(rows, dtype=object)
    twice = frame[frame.duplicated("image_id")]
    if not twice.empty:
        raise InputError(f"{twice['image_id'].iloc[0]}: named twice; name every image once")
    return frame


def checked(rows: pd.DataFrame, limits: dict[str, Any], pool: ThreadPoolExecutor) -> pd.DataFrame:
    """Return the rows with path, status, reason, width, height (pixels) and sha256; a fault of a file is a status.

    `path` opens the file: it may hold bytes that are no UTF-8, which no table can store; `shown` makes text of it.
    """

    def check(name: str, root: str) -> Finding:
        return check_file(name, Path(root), int(limits["max_pixels"]), float(limits["max_megabytes"]) * 1e6)

    findings = list(pool.map(check, rows["name"], rows["root"]))
    paths = [os.path.join(root, name) for root, name in zip(rows["root"], rows["name"], strict=True)]
    found = pd.DataFrame([vars(finding) for finding in findings], dtype=object).set_index(rows.index)
    return rows.assign(path=pd.Series(paths, index=rows.index, dtype=object)).join(found)
