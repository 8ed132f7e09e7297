"""Rows of text of a list in CSV (any separator, also gzip) or Excel. No heavy imports before a file needs them."""

from __future__ import annotations

import codecs
import csv
import functools
import gzip
import io
import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from buffycoat.core.errors import InputError

PARQUET = (".parquet", ".pq")
EXCEL = (".xlsx", ".xlsm")
SEPARATED = (".csv", ".tsv", ".tab", ".csv.gz", ".tsv.gz", ".tab.gz")
"""How the names of lists end, in any case."""
TABLES = (*SEPARATED, *EXCEL, *PARQUET)
OTHER_SHEETS = (".xls", ".xlsb", ".ods", ".numbers")
"""Spreadsheets that are not read."""
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
SAMPLE_CHARACTERS, SAMPLE_ROWS = 65_536, 20
"""How much of a list shows how it is separated."""


@dataclass(frozen=True)
class Rows:
    """A list: its columns' names, rows of stripped text, the line of each, and what a person should know of it.

    `repeated`: the names that stand in the header more than once; the later ones are numbered in `header`.
    """

    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    notes: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)


def is_table(name: str) -> bool:
    """Return whether a file's name is that of a table."""
    return name.lower().endswith(TABLES) and not name.startswith("~$")


def read_bytes(path: Path) -> bytes:
    """Return a file's content, unpacked where it is gzip; raises InputError where it cannot be read."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise InputError(f"{path}: not a whole gzip file ({problem})") from None
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({problem.strerror})") from None


def read_text(path: Path) -> str:
    """Return a text file's content: UTF-8 or UTF-16, each with or without byte-order mark, otherwise Latin-1."""
    content = read_bytes(path)
    for start, kind in ((b"PK\x03\x04", "an Excel file or an archive"), (b"PAR1", "a Parquet file")):
        if content.startswith(start):
            raise InputError(f"{path}: {kind} by its content; name it so, for its name says that it is text")
    try:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return content.decode("utf-16")
        if b"\x00" in content[:2]:
            # The header's first letter in UTF-16 without a mark: every other byte is zero.
            return content.decode("utf-16-be" if content[:1] == b"\x00" else "utf-16-le")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def numbered(header: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names with the later ones of equal names numbered, and those that were repeated."""
    names: list[str] = []
    for name in header:
        unique, count = name, 1
        while unique in names:
            count += 1
            unique = f"{name} ({count})"
        names.append(unique)
    return names, [name for name, count in Counter(header).items() if count > 1]


def _width(row: Sequence[str]) -> int:
    """Return the number of cells up to the last that holds something."""
    return next((place for place in range(len(row), 0, -1) if row[place - 1].strip()), 0)


def _separator(text: str) -> str:
    """Return what separates the values: of the separators that fit the first rows the one that gives most columns."""
    sample = text[:SAMPLE_CHARACTERS]
    found = []
    for place, separator in enumerate(SEPARATORS):
        rows: list[list[str]] = []
        try:
            for row in csv.reader(io.StringIO(sample, newline=""), delimiter=separator):
                if _width(row):
                    rows.append(row)
                if len(rows) > SAMPLE_ROWS:
                    break
        except csv.Error:
            pass
        # The last row may have been cut off.
        rows = rows[:-1] if len(sample) < len(text) and 1 < len(rows) <= SAMPLE_ROWS else rows
        width = _width(rows[0]) if rows else 0
        fits = all(len(row) >= width >= _width(row) for row in rows)
        found.append((fits and width > 1, width, -place, separator))
    return max(found)[3]


def csv_rows(path: Path) -> Rows:
    """Return the rows of a CSV, whatever separates its values; raises InputError on ragged rows.

    The line `sep=;` of Excel is understood; so are columns without a name, which are not read.
    """
    csv.field_size_limit(1_000_000)
    text = read_text(path)
    told = re.match(r'"?sep=([,;\t|:^~ ])"?[^\S\n]*\r?\n', text, re.IGNORECASE)
    text = text[told.end() :] if told else text
    separator = told[1] if told else _separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    above = 1 if told else 0
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append(cells)
                lines.append(reader.line_num + above)
    except csv.Error as problem:
        raise InputError(f"{path}: line {reader.line_num + above}: not valid CSV ({problem})") from None
    named = SEPARATORS.get(separator, repr(separator))
    notes = [] if separator == "," else [f"{path}: the values are separated by {named}"]
    return _settled(path, rows, lines, notes, named)


def _ragged(path: Path, line: int, row: list[str], header: list[str], named: str) -> InputError:
    advice = f" (separated by {named})" if named else ""
    if named == SEPARATORS[","] and _width(row) > len(header):
        advice += "; a value that holds a comma needs quotes around it"
    return InputError(f"{path}: line {line}: {len(row)} values, but the header names {len(header)} columns{advice}")


def _settled(path: Path, rows: list[list[str]], lines: list[int], notes: list[str], named: str = "") -> Rows:
    """Return rows whose first is the header; raises InputError where there is none, or a row does not fit it."""
    if not rows:
        raise InputError(f"{path}: the file is empty; it needs a header line and one line per image")
    header, rows, lines = rows[0][: _width(rows[0])], rows[1:], lines[1:]
    if rows and all(_width(row) == len(header) + 1 and row[0] == str(k) for k, row in enumerate(rows, 1)):
        # R's write.table names no column of row numbers, not even by an empty name.
        header = ["", *header]
    width = len(header)
    for row, line in zip(rows, lines, strict=True):
        if len(row) < width or (len(row) > width and any(row[width:])):
            raise _ragged(path, line, row, header, named)
    kept = [place for place, name in enumerate(header) if name]
    if len(kept) < width:
        left = ", ".join(str(place + 1) for place, name in enumerate(header) if not name)
        notes = [*notes, f"{path}: column {left} has no name (row numbers of pandas or R?) and is not read"]
        rows = [[row[place] for place in kept] for row in rows]
    elif any(len(row) > width for row in rows):
        rows = [row[:width] for row in rows]
    names, repeated = numbered([header[place] for place in kept])
    return Rows(names, rows, lines, notes, repeated)


def _as_text(value: object) -> str:
    """Return a spreadsheet's value as text; a whole number has no decimals."""
    if isinstance(value, float):
        return "" if math.isnan(value) else str(int(value)) if value.is_integer() else str(value)
    return "" if value is None else str(value).strip()


@functools.lru_cache(maxsize=1)
def _excel_rows(path: Path, changed: int, size: int) -> Rows:
    """Return the rows of an Excel file's first sheet; read once, for a dry run asks several times.

    `changed` and `size` tell the file from a later one.
    """
    import warnings

    import pandas as pd

    try:
        with warnings.catch_warnings():
            # What openpyxl does not know of styles and checks of input is no matter of values.
            warnings.simplefilter("ignore", UserWarning)
            with pd.ExcelFile(path, engine="openpyxl") as book:
                sheets = [str(name) for name in book.sheet_names]
                frame = book.parse(0, header=None, dtype=object, na_filter=False)
    except Exception as problem:  # Whatever openpyxl, zipfile or an XML parser stumbles on in a damaged file.
        raise InputError(f"{path}: not a readable Excel file ({problem}); save it again, or as CSV") from None
    rows = [[_as_text(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    filled = [(row, line) for line, row in enumerate(rows, 1) if any(row)]
    notes = [] if len(sheets) == 1 else [f"{path}: the sheet '{sheets[0]}' is read; not read: {', '.join(sheets[1:])}"]
    return _settled(path, [row for row, _ in filled], [line for _, line in filled], notes)


def read_rows(path: Path) -> Rows:
    """Return the rows of a CSV or Excel file; raises InputError where it is missing, damaged or ragged."""
    if not path.name.lower().endswith(EXCEL):
        return csv_rows(path)
    try:
        known = path.stat()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({problem.strerror})") from None
    return _excel_rows(path, known.st_mtime_ns, known.st_size)
