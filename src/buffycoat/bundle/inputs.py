"""What is given to `predict`: files, folders and tables become one row per image, whatever is there."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.index.make_index import Finding, check_file
from buffycoat.index.places import files_below, is_clutter
from buffycoat.index.rows import OTHER_SHEETS, TABLES, is_table
from buffycoat.index.sources import Listing, case_notes, column_of, found_files, read_table
from buffycoat.index.words import held_column, likely_columns

log = logging.getLogger("buffycoat")
Given = Path | str | pd.DataFrame
BESIDE = (*TABLES, *OTHER_SHEETS, ".txt", ".xml", ".json", ".yaml", ".yml", ".md", ".html", ".log", ".pdf")
"""How files end that people keep beside images: in a folder they are counted and left out."""
USER = "user:"
"""Before the name of a user's own column, in the rows of `listed`."""
FRAME = "the data frame"
Row = dict[str, object]


def shown(name: str) -> str:
    """Return a file name as text that can be stored: bytes that are no UTF-8 as backslash escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _row(image_id: str, name: str, root: str | Path, problem: str = "") -> Row:
    return {"image_id": shown(image_id), "name": name, "root": str(root), "problem": problem}


def _of_folder(folder: Path) -> list[Row]:
    """Return a row for every file below a folder, in order of name; what is left out is counted in one line."""
    files = list(files_below(folder))
    folders = {folder, *(folder / os.path.dirname(file) for file in files)}
    hidden = sum(is_clutter(name) for place in folders for name in os.listdir(place))
    beside = [file for file in files if file.lower().endswith(BESIDE)]
    kinds = Counter(os.path.splitext(file)[1].lower() for file in beside)
    left = [f"{count} {kind}" for kind, count in sorted(kinds.items())]
    left += [f"{hidden} hidden files and folders, or such as systems leave"] * bool(hidden)
    if left:
        log.warning("%s: left out: %s", folder, ", ".join(left))
    rows = set(files) - set(beside)
    return [_row(str(folder / file), file, folder) for file in sorted(rows, key=Path)]


def _without_image(folder: Path) -> str:
    """Return a sentence on a folder without an image, with the table in it that may be meant."""
    tables = [os.path.join(folder, file) for file in files_below(folder) if is_table(file)]
    return f"{folder}: holds no image" + (f"; perhaps you mean {tables[0]}" if tables else "")


def _framed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a user's frame with None for gaps, an index that has a name as a column.

    Raises InputError where it has no rows, or two columns of one name.
    """
    frame = frame.reset_index() if any(name is not None for name in frame.index.names) else frame
    names = [str(name) for name in frame.columns]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{FRAME}: two columns are named '{twice[0]}'; rename one")
    if frame.empty:
        raise InputError(f"{FRAME}: no rows: it needs at least one image")
    named = frame.set_axis(names, axis=1).reset_index(drop=True)
    return named.astype(object).where(named.notna(), None)


def _require_column(frame: pd.DataFrame, column: str, place: Path, option: str) -> None:
    """Raise InputError where a table has no such column, with the names that it has and one that is likely meant."""
    names = [str(name) for name in frame.columns]
    if held_column(names, column) is None:
        likely = likely_columns(names, "image")
        advice = f"perhaps {option} {likely[0]}" if likely else f"name yours with {option}"
        raise InputError(f"{place}: no column '{column}' (found: {', '.join(names)}); {advice}")


def _of_table(given: Given, column: str) -> list[Row]:
    """Return a row for every row of a table, with the user's columns; paths are relative to the table, or to here."""
    in_memory = isinstance(given, pd.DataFrame)
    place = Path(FRAME) if isinstance(given, pd.DataFrame) else Path(given)
    frame = _framed(given) if isinstance(given, pd.DataFrame) else read_table(place)
    _require_column(frame, column, place, "image_column" if in_memory else "--image-column")
    names = column_of(frame, column, place)
    named = pd.DataFrame({"file": [name or "" for name in names]}, dtype=object)
    listing = found_files(Listing(named, Path(".") if in_memory else place.parent))
    for note in [*frame.attrs.get("notes", []), *case_notes(frame, [column], place), *listing.notes]:
        log.warning("%s", note)
    rows = []
    lines, values = frame.index, frame.to_dict("records")
    for k, (name, file) in enumerate(zip(names, listing.frame["file"], strict=True)):
        if name is None:
            row = _row(
                f"{place}: {'row' if in_memory else 'line'} {lines[k]}",
                "",
                listing.root,
                "the image's name is empty here",
            )
        else:
            lost = [listing.lost[k], listing.advice] if k in listing.lost else []
            row = _row(name, file, listing.root, shown("; ".join(filter(None, lost))))
        rows.append({**row, **{f"{USER}{key}": value for key, value in values[k].items()}})
    return rows


def _of_file(given: Path, text: str) -> Row:
    """Return the row of one file, whether it is there or not; a link is followed: whoever names a file means it."""
    if "\x00" in text:
        return _row(text, text, "")
    real = Path(os.path.realpath(given))
    return _row(text, real.name, real.parent)


def _rows_of(given: Given, column: str) -> list[Row]:
    """Return the rows of one thing that was given."""
    if isinstance(given, pd.DataFrame):
        return _of_table(given, column)
    path = Path(given) if os.path.lexists(given) else Path(os.path.expanduser(given))
    if path.is_dir():
        return _of_folder(path)
    if is_table(path.name):
        return _of_table(path, column)
    return [_of_file(path, str(given))]


def _sources(inputs: Given | Iterable[Given]) -> list[Given]:
    """Return what was given as a list; raises InputError on what is none of it."""
    found: list[Given] = [inputs] if isinstance(inputs, (str, Path, pd.DataFrame)) else list(inputs)
    for given in found:
        if not isinstance(given, (str, Path, pd.DataFrame)) or (isinstance(given, str) and not given):
            raise InputError(f"{given!r}: name images by a path, several paths, or a data frame with a column of paths")
    return found


def _require_something(sources: list[Given], rows: list[Row]) -> None:
    """Raise InputError where no image is named, or nothing that was named is there."""
    paths = [Path(given) for given in sources if not isinstance(given, pd.DataFrame)]
    if not sources:
        raise InputError("no images: name files, folders, or tables with a column of paths")
    if not rows:
        raise InputError(_without_image(paths[0]) + " (nor does any other input)" * (len(sources) > 1))
    if len(paths) == len(sources) and not any(path.expanduser().exists() for path in paths):
        others = f", nor are the {len(paths) - 1} others there" if len(paths) > 1 else ""
        raise InputError(f"{paths[0]}: no such file or folder (looked for {os.path.abspath(paths[0])}){others}")


def _place(row: Row) -> str:
    """Return the file that a row names, with every link followed."""
    path = os.path.join(str(row["root"]), str(row["name"]))
    return path if "\x00" in path else os.path.realpath(path)


def _told_apart(rows: list[Row]) -> list[Row]:
    """Return the rows with ids that differ: equal names in two tables get their tables' folders.

    Raises InputError where one image is named twice.
    """
    counts = Counter(str(row["image_id"]) for row in rows)
    same = [row for row in rows if counts[str(row["image_id"])] > 1]
    places: dict[tuple[str, str], Row] = {}
    for row in same:
        if (str(row["image_id"]), _place(row)) in places:
            raise InputError(f"{row['image_id']}: named twice; name every image once")
        places[str(row["image_id"]), _place(row)] = row
    for row in same:
        row["image_id"] = shown(os.path.join(str(row["root"]), str(row["name"])))
    again = Counter(str(row["image_id"]) for row in rows)
    for row in same:
        if again[str(row["image_id"])] > 1:
            row["image_id"] = shown(_place(row))
    return rows


def listed(inputs: Given | Iterable[Given], image_column: str = "image") -> pd.DataFrame:
    """Return a row per image: image_id, name (below its root), root, problem; and the user's columns, after `USER`.

    A folder stands for every file below it, links followed; a table or a data frame for its rows, whose paths are
    relative to the table, or to the working directory; any other path for one image, whether it exists or not. Left
    out of folders, and counted in the log, are hidden files, those that systems leave, tables and texts.
    Raises InputError where nothing is given, nothing of it is there, a table is no table, or an image is named twice.
    """
    sources = _sources(inputs)
    parts = [_rows_of(given, image_column) for given in sources]
    rows = [row for part in parts for row in part]
    _require_something(sources, rows)
    for given, part in zip(sources, parts, strict=True):
        if not part and not isinstance(given, pd.DataFrame):
            log.warning("%s", _without_image(Path(given)))
    # As objects: names that are no UTF-8 are no strings to Arrow.
    frame = pd.DataFrame(_told_apart(rows), dtype=object)
    return frame.where(frame.notna(), None)


def _checked_file(name: str, root: str, problem: str) -> Finding:
    """Return what there is to know about an image; links are followed, as what was named is meant."""
    if problem:
        return Finding("missing", problem)
    finding = check_file(name, Path(root))
    if finding.status != "missing" or "\x00" in name:
        return finding
    path = os.path.abspath(os.path.join(root, name))
    if os.path.isdir(path):
        return Finding("missing", f"a folder, not an image: {shown(path)}; name it as an input of its own")
    return finding if os.path.exists(path) else Finding("missing", f"no such file: {shown(path)}")


def checked(rows: pd.DataFrame, pool: ThreadPoolExecutor) -> pd.DataFrame:
    """Return the rows with path, status, reason, width, height (pixels) and sha256; a fault of a file is a status.

    `path` opens the file: it may hold bytes that are no UTF-8, which no table can store; `shown` makes text of it.
    """
    findings = list(pool.map(_checked_file, rows["name"], rows["root"], rows["problem"]))
    paths = [os.path.join(root, name) for root, name in zip(rows["root"], rows["name"], strict=True)]
    found = pd.DataFrame([vars(finding) for finding in findings], dtype=object).set_index(rows.index)
    return rows.assign(path=pd.Series(paths, index=rows.index, dtype=object)).join(found)
