"""What is given to `predict`: files, folders and tables become one row per image, whatever is there."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from buffycoat.core.errors import InputError
from buffycoat.data.locations import Location, locations_of
from buffycoat.data.tables.index import BOX
from buffycoat.index.boxes import annotated_rows, names_left_out, rows_of, table_boxes, white_cells
from buffycoat.index.forms import (
    annotations_below,
    columns_of_boxes,
    holds_images,
    is_image_type,
    is_release,
    names_classes,
    shards_of,
)
from buffycoat.index.make_index import Finding, check_location, with_boxes
from buffycoat.index.places import Finder, files_below, is_clutter, is_image
from buffycoat.index.rows import OTHER_SHEETS, TABLES, is_table
from buffycoat.index.settings import Columns, MakeLabels
from buffycoat.index.shards import shard_rows
from buffycoat.index.sources import Listing, case_notes, column_of, found_files, read_table
from buffycoat.index.words import held_column, likely_columns

log = logging.getLogger("buffycoat")
Given = Path | str | pd.DataFrame
BESIDE = (*TABLES, *OTHER_SHEETS, ".txt", ".xml", ".json", ".yaml", ".yml", ".md", ".html", ".log", ".pdf")
"""How files end that people keep beside images: in a folder they are counted and left out."""
USER = "user:"
"""Before the name of a user's own column, in the rows of `listed`."""
FRAME = "the data frame"
PLACE = ("in_column", "in_row", *BOX, "relative", "size")
"""Columns of rows that are no whole files: where an image is in a Parquet file, where a cell is in a field."""
FOUND = ("status", "reason", "width", "height", "sha256")
"""What is taken of a finding."""
TOLD = ("field", "label", "group", "split", "severity")
"""What boxes and Parquet files tell of an image besides: columns of the user's."""
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


def _elsewhere(frame: pd.DataFrame, folder: Path | None = None) -> list[Row]:
    """Return the rows of cells in boxes, or of images in Parquet files; their names start with `folder`, if any."""
    rows = []
    for entry in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        name = str(entry["image_id"])
        row = _row(name if folder is None else str(folder / name), str(entry["file"]), "")
        told = {f"{USER}{key}": entry[key] for key in TOLD if entry.get(key) is not None}
        rows.append({**row, **{key: entry[key] for key in PLACE if key in entry}, **told})
    return rows


def _cells_of(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return the boxes of white cells; red cells, platelets and the like are counted in the log and left out."""
    others = names_left_out({str(name) for name in frame["label"].dropna()}, MakeLabels())
    if others:
        log.warning("%s: %d boxes left out: %s", where, int(frame["label"].isin(others).sum()), ", ".join(others))
    return white_cells(frame, others, where)[0]


def _of_annotations(path: Path) -> list[Row] | None:
    """Return a row per box of a white cell, and one per image that no annotation names; None where there are no boxes.

    Texts beside images may be no annotations at all: then the folder is one of images, and that is said.
    """
    folder = path if path.is_dir() else path.parent
    try:
        boxes, empty = annotated_rows(path)
    except InputError as problem:
        if annotations_below(path)[0] != "yolo" or names_classes(folder) or not path.is_dir():
            raise
        log.warning("%s; so these files are not taken for boxes on fields", problem)
        return None
    if empty:
        log.warning(
            "%s: %d fields have no box, for instance %s: no cell is taken from them", path, len(empty), empty[0]
        )
    rows = _elsewhere(_cells_of(boxes, str(path)), folder)
    known = {os.path.realpath(file) for file in boxes["file"]} | {os.path.realpath(folder / name) for name in empty}
    others = [name for name in files_below(folder) if is_image(os.path.basename(name))]
    alone = [name for name in others if os.path.realpath(folder / name) not in known]
    if alone and path.is_dir():
        log.warning("%s: %d images have no annotation, and are taken whole", path, len(alone))
        rows += [_row(str(folder / name), name, folder) for name in alone]
    return rows


def _of_shards(path: Path, column: str) -> list[Row]:
    """Return a row per image inside Parquet files, with their other columns."""
    frame = shard_rows(str(path), is_release(path, shards_of(path)), Columns(image=column))
    rows = _elsewhere(frame)
    by_file: dict[str, list[Row]] = {}
    for file in dict.fromkeys(frame["file"]):
        schema = pq.read_schema(file)
        names = [field.name for field in schema if not is_image_type(field.type)]
        by_file[file] = pq.read_table(file, columns=names).to_pylist()
    for row in rows:
        values = by_file[str(row["name"])][int(str(row["in_row"]))]
        row.update({f"{USER}{key}": value for key, value in values.items()})
    return rows


def _of_boxes(frame: pd.DataFrame, column: str, place: Path, root: Path) -> list[Row]:
    """Return a row per box of a table, with the user's columns."""
    names = column_of(frame, column, place)
    held = held_column([str(name) for name in frame.columns], "label")
    nothing: list[str | None] = [None] * len(frame)
    texts: dict[str, Sequence[str | None]] = {"image": names, "group": nothing, "split": nothing}
    texts["label"] = column_of(frame, held, place) if held else nothing
    boxes, empty = table_boxes(frame, place, texts, root)
    finder = Finder(root)
    files = {name: str(root / found[0]) for name in set(names) if name and (found := finder.find(name))}
    boxes = [box._replace(file=files.get(box.field, box.file)) for box in boxes]
    if empty:
        log.warning("%s: %d rows have no box, for instance that of %s", place, len(empty), empty[0])
    values = {f"{place}: line {line}": row for line, row in zip(frame.index, frame.to_dict("records"), strict=True)}
    cells = _cells_of(rows_of(boxes), str(place)) if boxes else pd.DataFrame(columns=["place"])
    rows = _elsewhere(cells)
    for row, where in zip(rows, cells["place"], strict=True):
        row.update({f"{USER}{key}": value for key, value in values[where].items()})
    return rows


def _of_table(given: Given, column: str) -> list[Row]:
    """Return a row for every row of a table, with the user's columns; paths are relative to the table, or to here."""
    in_memory = isinstance(given, pd.DataFrame)
    place = Path(FRAME) if isinstance(given, pd.DataFrame) else Path(given)
    frame = _framed(given) if isinstance(given, pd.DataFrame) else read_table(place)
    _require_column(frame, column, place, "image_column" if in_memory else "--image-column")
    root = Path(".") if in_memory else place.parent
    if columns_of_boxes(frame.columns) is not None:
        return _of_boxes(frame, column, place, root)
    names = column_of(frame, column, place)
    named = pd.DataFrame({"file": [name or "" for name in names]}, dtype=object)
    listing = found_files(Listing(named, root))
    for note in [*frame.attrs.get("notes", []), *case_notes(frame, [column], place), *listing.notes]:
        log.warning("%s", note)
    rows = []
    lines, values = frame.index, frame.to_dict("records")
    for k, (name, file) in enumerate(zip(names, listing.frame["file"], strict=True)):
        if name is None:
            where = f"{place}: {'row' if in_memory else 'line'} {lines[k]}"
            row = _row(where, "", root, "the image's name is empty here")
        else:
            lost = [listing.lost[k], listing.advice] if k in listing.lost else []
            row = _row(name, file, root, shown("; ".join(filter(None, lost))))
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
    if path.is_dir() or path.suffix.lower() in (".json", ".yaml", ".yml"):
        form, files = annotations_below(path) if path.exists() else (None, [])
        if form and files and (rows := _of_annotations(path)) is not None:
            return rows
    if (shards := shards_of(path)) and all(map(holds_images, shards)):
        return _of_shards(path, column)
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
    inside = "" if row.get("in_row") is None else f"#{int(str(row['in_row'])) + 1}"
    return path if "\x00" in path else os.path.realpath(path) + inside


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
        inside = "" if row.get("in_row") is None else f"#{int(str(row['in_row'])) + 1}"
        row["image_id"] = shown(os.path.join(str(row["root"]), str(row["name"]))) + inside
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


def _checked_place(place: Location, problem: str) -> Finding:
    """Return what there is to know about an image; links are followed, as what was named is meant."""
    if problem or "\x00" in place.path:
        return Finding("missing", problem or "no such file: no file's name holds a zero byte")
    finding = check_location(place)
    if finding.status != "missing" or place.row is not None:
        return finding
    path = os.path.abspath(place.path)
    if os.path.isdir(path):
        return Finding("missing", f"a folder, not an image: {shown(path)}; name it as an input of its own")
    return finding if os.path.exists(path) else Finding("missing", f"no such file: {shown(path)}")


def checked(rows: pd.DataFrame, pool: ThreadPoolExecutor) -> pd.DataFrame:
    """Return the rows with path, status, reason, width, height (pixels) and sha256; a fault of a file is a status.

    `path` opens the file: it may hold bytes that are no UTF-8, which no table can store; `shown` makes text of it. A
    field is looked at once for all of its cells; boxes become pixels.
    """
    paths = [os.path.join(root, name) for root, name in zip(rows["root"], rows["name"], strict=True)]
    rows = rows.assign(path=pd.Series(paths, index=rows.index, dtype=object))
    places = list(zip(locations_of(rows), rows["problem"], strict=True))
    different = list(dict.fromkeys(places))
    findings = dict(zip(different, pool.map(lambda key: _checked_place(*key), different), strict=True))
    told = [{name: getattr(findings[place], name) for name in FOUND} for place in places]
    found = rows.join(pd.DataFrame(told, dtype=object).set_index(rows.index))
    if BOX[0] not in rows.columns or not (boxed := rows[BOX[0]].notna()).any():
        return found
    return pd.concat([with_boxes(found[boxed]), found[~boxed]]).loc[rows.index]
