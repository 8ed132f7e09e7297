"""The lists of images as rows of text, and the digest of what `make_index` reads of them; no heavy imports."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
from pathlib import Path

from buffycoat.core.errors import InputError
from buffycoat.index.settings import MakeIndex

WBCBENCH_PARTS = {
    "phase1_label.csv": "phase1",
    "phase2_train.csv": "phase2/train",
    "phase2_eval.csv": "phase2/eval",
    "phase2_test.csv": "phase2/test",
}
"""Each list of the challenge and the folder its images lie in."""
PARQUET = (".parquet", ".pq")
"""How the names of Parquet files end; every other list is a CSV."""


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


def require_names(header: list[str], path: Path) -> None:
    """Raise InputError where the header of a list has an empty or a repeated name."""
    if "" in header or len(set(header)) != len(header):
        raise InputError(f"{path}: the header has an empty or repeated name: {header}")


def csv_rows(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Return a CSV's header, its rows of stripped text, and the line of each; raises InputError on ragged rows."""
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
    require_names(header, path)
    for row, line in zip(rows[1:], lines[1:], strict=True):
        if len(row) < len(header) or any(row[len(header) :]):
            raise InputError(f"{path}: line {line}: {len(row)} values, but the header names {len(header)} columns")
    return header, [row[: len(header)] for row in rows[1:]], lines[1:]


def _columns(path: Path, names: list[str | None]) -> list[list[str]]:
    """Return those of the named columns that the list has, in order of name, which comes first."""
    if path.suffix.lower() in PARQUET:
        import pyarrow.parquet as pq

        held = sorted(name for name in pq.read_schema(path).names if name in names)
        table = pq.read_table(path, columns=held)
        return [[name, *(str(value).strip() for value in table[name].to_pylist())] for name in held]
    header, rows, _ = csv_rows(path)
    places = sorted((name, place) for place, name in enumerate(header) if name in names)
    return [[name, *(row[place] for row in rows)] for name, place in places]


def _contents(path: Path, names: list[str | None]) -> list[list[str]]:
    """Return the named columns of a list; of one that is not as it should be its digest: its step will say why."""
    try:
        return _columns(path, names)
    except Exception:  # Arrow raises whatever it stumbles on in a damaged file.
        try:
            return [["damaged", hashlib.sha256(path.read_bytes()).hexdigest()]]
        except OSError as problem:
            return [["unreadable", str(problem.errno)]]


def rows_digest(settings: MakeIndex) -> str:
    """Return 16 hexadecimal digits that change with the images that are listed, their order and their parts.

    Labels and groups do not count, nor do columns that `make_index` does not read. Never raises for a fault of a list.
    """
    if settings.source == "wbcbench":
        names: list[str | None] = ["ID", "split"]
    else:
        names = [settings.image_column, settings.split_column]
    contents = [_contents(Path(name), names) for name in settings.lists()]
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:16]
