"""Reading the images of a table, of class folders or of WBCBench's lists. Everything is text, nothing is guessed."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from buffycoat.core.errors import InputError
from buffycoat.index.lists import WBCBENCH_PARTS, base_of, class_folders, kind_of
from buffycoat.index.places import TRIED, Finder, compiled_pattern, files_below, is_image
from buffycoat.index.rows import PARQUET, csv_rows, numbered, read_rows
from buffycoat.index.settings import Columns, MakeIndex
from buffycoat.index.words import box_columns, cell_type_of, held_column, likely_columns, part_of

log = logging.getLogger("buffycoat")
SETTINGS = {"image": "index.columns.image", "label": "index.columns.label", "split": "index.columns.split",
            "group": "index.columns.group"}  # fmt: skip
SHOWN_VALUES = 5
"""How many values of a column a message names."""


@dataclass(frozen=True)
class Listing:
    """The images that a source lists: a frame with image_id, file, split, role (text; missing is None).

    Rows of Parquet files and cells on fields have more columns (shards.FIELDS, boxes.ROWS).

    `root`: the folder that files are relative to, None where they are as they are; `notes`: what was understood, for a
    person; `lost`: the reasons, by position, of files that are not there; `advice`: where these may be, where no file
    is there.
    """

    frame: pd.DataFrame
    root: Path | None
    notes: list[str] = field(default_factory=list)
    lost: dict[int, str] = field(default_factory=dict)
    advice: str = ""


def read_csv(path: Path) -> pd.DataFrame:
    """Return a CSV's rows as text; the index is the line in the file. Raises InputError on ragged rows."""
    rows = csv_rows(path)
    return pd.DataFrame(rows.rows, columns=rows.header, index=rows.lines, dtype=object)


def _read_parquet(path: Path) -> pd.DataFrame:
    """Return a Parquet file's rows as they are, None where empty; the index counts them from 1."""
    try:
        # What pandas or Arrow noted beside the columns is left aside: an index of pandas is a column like others.
        table = pq.ParquetFile(path).read().replace_schema_metadata(None)
        names, repeated = numbered(table.column_names)
        frame = table.rename_columns(names).to_pandas(integer_object_nulls=True).astype(object)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, MemoryError) as problem:
        # Arrow raises whatever it stumbles on in a damaged file.
        raise InputError(f"{path}: not a readable Parquet file ({problem})") from None
    frame.index += 1
    values: pd.DataFrame = frame.where(frame.notna(), None)
    values.attrs = {"repeated": repeated, "notes": []}
    return values


def read_table(path: Path) -> pd.DataFrame:
    """Return the rows of a CSV, Excel or Parquet file; the index is the line or row, for messages.

    `attrs` holds `notes`, what a person should know, and `repeated`, names that stand in the header more than once.
    """
    if path.suffix.lower() in PARQUET:
        frame = _read_parquet(path)
    else:
        rows = read_rows(path)
        frame = pd.DataFrame(rows.rows, columns=rows.header, index=rows.lines, dtype=object)
        frame.attrs = {"repeated": rows.repeated, "notes": rows.notes}
    if frame.empty:
        raise InputError(f"{path}: no rows: the table needs at least one image")
    return frame


def texts_of(column: pd.Series) -> list[str | None]:
    """Return a column's values as stripped text, None where there is none."""
    return [None if value is None else str(value).strip() or None for value in column]


def column_of(frame: pd.DataFrame, name: str, path: Path, setting: str | None = None) -> list[str | None]:
    """Return the texts of column `name` of the list `path`, whose name may differ by case where one alone does.

    Raises InputError, naming `setting`, where there is none, where it stands twice, or where it holds no texts.
    """
    names = [str(column) for column in frame.columns]
    held = held_column(names, name)
    if held is None:
        advice = _advice_on_column(names, setting) if setting else ""
        raise InputError(f"{path}: no column '{name}' (found: {', '.join(names)}){advice}")
    if held in frame.attrs.get("repeated", []):
        raise InputError(f"{path}: the header has a repeated name: '{held}'; rename one of the columns")
    first = next((value for value in frame[held] if value is not None), None)
    if isinstance(first, (bytes, list, dict, np.ndarray)):
        raise InputError(f"{path}: column '{held}' holds {type(first).__name__}s, not texts or numbers")
    return texts_of(frame[held])


def _advice_on_column(names: list[str], setting: str) -> str:
    """Return what may be done about a column that is not among the names of a table."""
    what = setting.rpartition(".")[2]
    cells = [name for name in names if cell_type_of(name)]
    if likely := likely_columns(names, what):
        return f"; perhaps index: {{columns: {{{what}: {likely[0]}}}}}"
    if len(names) == 1 and len(names[0].split()) > 1:
        return "; the header is one column: separate the values by commas, semicolons or tabs"
    if what == "label" and len(cells) > 1:
        return f"; {', '.join(cells)} look like a column per class: make one column of them, with the class in it"
    return f"; name yours in {setting}"


def case_notes(frame: pd.DataFrame, names: Sequence[str | None], path: Path) -> list[str]:
    """Return a sentence on the columns that are used although the case of their names differs; none without such."""
    held = {name: held_column(list(frame.columns), name) for name in names if name}
    differing = [f"'{found}' as '{name}'" for name, found in held.items() if found not in (None, name)]
    return [f"{path}: columns are read whatever their case: {', '.join(differing)}"] if differing else []


def checked_ids(ids: list[str | None], lines: list[str], advice: str = "keep one row") -> list[str]:
    """Return the ids; raises InputError on an empty or a repeated one, naming both lines."""
    first: dict[str, str] = {}
    for image_id, line in zip(ids, lines, strict=True):
        if image_id is None:
            raise InputError(f"{line}: the image's name is empty")
        if image_id in first:
            raise InputError(f"{line}: the image '{image_id}' is listed twice (first: {first[image_id]}); {advice}")
        first[image_id] = line
    return [image_id for image_id in ids if image_id is not None]


def table_ids(frame: pd.DataFrame, columns: Columns, path: Path) -> list[str]:
    """Return the names of a table's images; raises InputError on an empty or a repeated one, or without the column."""
    lines = [f"{path}: line {line}" for line in frame.index]
    boxes = box_columns([str(name) for name in frame.columns])
    advice = f"keep one row; the columns {', '.join(boxes)} look like boxes, which are not read" if boxes else None
    ids = column_of(frame, columns.image, path, SETTINGS["image"])
    return checked_ids(ids, lines, advice) if advice else checked_ids(ids, lines)


def _shown(values: dict[str, int]) -> str:
    """Return values of a column with their rows, the first few."""
    shown = [f"'{value}' ({count})" for value, count in values.items()]
    return ", ".join(shown[:SHOWN_VALUES]) + (f" and {len(shown) - SHOWN_VALUES} more" if shown[SHOWN_VALUES:] else "")


def roles_of(
    values: Sequence[str | None], test_values: Literal["auto"] | tuple[str, ...], where: str
) -> tuple[list[str], list[str]]:
    """Return 'train' or 'test' for each value of a split, and notes on what was understood.

    `where` names the column or folders. Raises InputError where some values of several are not understood, or none of
    those that are said to mean test occurs.
    """
    counts = Counter(value for value in values if value is not None)
    parts = {value: part_of(value) for value in counts}
    remedy = (
        "say which values mean test in index.make_index.test_values ([] where none does), or name another column, or"
        " null, in index.columns.split"
    )
    notes = []
    if test_values == "auto":
        tested = {value for value, part in parts.items() if part == "test"}
        unknown = {value: counts[value] for value, part in parts.items() if part is None}
        if unknown and len(counts) > 1:
            raise InputError(f"{where}: found {_shown(unknown)}, which mean neither training nor test; {remedy}")
        notes += [f"{where}: its only value '{value}' counts as training" for value in unknown]
    else:
        wanted = {text.strip().casefold() for text in test_values}
        tested = {value for value in counts if value.casefold() in wanted}
        if wanted and not tested and any(part not in ("train", "val") for part in parts.values()):
            raise InputError(
                f"{where}: none of index.make_index.test_values ({', '.join(test_values)}) occurs (found:"
                f" {_shown(dict(counts))}); {remedy}"
            )
        against = {value: counts[value] for value, part in parts.items() if part == "test" and value not in tested}
        notes += [f"{where}: {_shown(against)} count as training, by index.make_index.test_values"] if against else []
    held = {value: counts[value] for value, part in parts.items() if part == "val" and value not in tested}
    if held:
        notes.append(f"{where}: {_shown(held)} counts as training: folds are made of all training images")
    empty = len(values) - counts.total()
    if empty and counts:
        notes.append(f"{where}: {empty} rows are empty and count as training")
    return ["test" if value in tested else "train" for value in values], notes


def read_listing(data: str, columns: Columns, settings: MakeIndex) -> Listing:
    """Return the images that the data list; raises InputError on anything wrong with the lists themselves."""
    kind = kind_of(data)
    if kind == "table":
        return _read_own(Path(data), columns, settings)
    if kind == "wbcbench":
        return _read_wbcbench(Path(data))
    return _read_folders(Path(data), columns, settings)


def own_groups(frame: pd.DataFrame, column: str | None, path: Path) -> list[str | None]:
    """Return the texts of a table's column of patients, None where it has none."""
    if column is not None:
        return column_of(frame, column, path, SETTINGS["group"])
    return column_of(frame, "group", path) if held_column(list(frame.columns), "group") else [None] * len(frame)


def _read_folders(root: Path, columns: Columns, settings: MakeIndex) -> Listing:
    rows = folder_rows(root, columns.pattern)
    base = base_of(root)
    notes = [] if base == root or columns.pattern else [f"{root}: the classes are the folders in {base}"]
    others = sorted(name for name in files_below(root) if not is_image(name))
    if others:
        notes.append(f"{root}: {len(others)} files are no images and left aside, for instance {others[0]}")
    if columns.pattern:
        strange = rows[rows["label"].isna()]
        if len(strange):
            notes.append(
                f"{root}: {len(strange)} images do not fit index.columns.pattern and have no label, for instance"
                f" {strange['file'].iloc[0]}"
            )
        roles, told = roles_of(rows["split"].tolist(), settings.test_values, f"{root}: <split>")
    else:
        held = sorted({str(split) for split in rows["split"].dropna() if part_of(split) == "val"})
        told = [f"{root}: {name}/ counts as training: folds are made of all training images" for name in held]
        roles = ["test" if split and part_of(split) == "test" else "train" for split in rows["split"]]
    rows["role"] = pd.Series(roles, dtype=object)
    return Listing(rows[["image_id", "file", "split", "role"]], root, [*notes, *told])


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
    ids = table_ids(frame, columns, path)
    listed = pd.DataFrame({"image_id": ids, "file": ids}, dtype=object)
    split = own_split(frame, columns.split, path)
    listed["split"] = split
    where = f"{path}: column '{held_column(list(frame.columns), columns.split or '')}'"
    listed["role"], told = roles_of(split, settings.test_values, where)
    notes = [*frame.attrs["notes"], *case_notes(frame, [columns.image, columns.split], path), *told]
    return Listing(listed, Path(settings.root) if settings.root else path.parent, notes)


def folder_rows(root: Path, pattern: str | None = None) -> pd.DataFrame:
    """Return image_id, file, label, group and split of the images of class folders; those beside these have no label.

    With a pattern, label, group and split are what it names in the paths, and images that do not fit have none.
    """
    names = [_utf8(name, root) for name in files_below(root) if is_image(name)]
    if pattern:
        read = [found.groupdict() if (found := compiled_pattern(pattern).fullmatch(name)) else {} for name in names]
        if names and not any(read):
            raise InputError(
                f"{root}: no image fits index.columns.pattern {pattern}, for instance {names[0]}; correct it"
            )
        rows = [
            (name, name, *(found.get(key) for key in ("label", "group", "split")))
            for name, found in zip(names, read, strict=True)
        ]
    else:
        above = len(base_of(root).relative_to(root).parts)
        divided = any(split is not None for split, _ in class_folders(root))
        rows = [(name, name, *_default_places(name.split("/")[above:-1], divided)) for name in names]
    return pd.DataFrame(rows, columns=["image_id", "file", "label", "group", "split"], dtype=object)


def doubt_on_layout(root: Path, columns: Columns) -> str:
    """Return a sentence on folders in class folders that may be patients, or hold the classes; empty without such.

    Raises InputError where they are parts of the data, or are named as cells and the folders above them are not.
    """
    if columns.pattern:
        return ""
    base = base_of(root)
    divided = any(split is not None for split, _ in class_folders(root))
    names = [name for name in files_below(base) if is_image(name)]
    below = base.relative_to(root).as_posix()
    above = ("" if below == "." else f"{below}/") + ("<split>/" if divided else "")
    wrong, doubt = _advice_on_layout([name.split("/")[:-1] for name in names], int(divided), above)
    if wrong:
        raise InputError(f"{root}: {wrong}")
    return f"{root}: {doubt}" if doubt else ""


def _advice_on_layout(folders: list[list[str]], first: int, above: str) -> tuple[str, str]:
    """Return what is wrong, and what is doubtful, where folders stand in class folders; empty where nothing is.

    `folders`: those of each image; the class is at place `first`, below what the pattern `above` names.
    """
    levels = {(inside[first], inside[first + 1]) for inside in folders if len(inside) > first + 1}
    inner = sorted({second for _, second in levels})
    outer = sorted({name for name, _ in levels})
    shown = f"{', '.join(inner[:3])} stand in {', '.join(f'{name}/' for name in outer[:3])}"
    if not first and {part_of(name) for name in inner} > {"test"} and all(map(part_of, inner)):
        return f"the folders {shown}; set index.columns.pattern: {above}<label>/<split>/<file>", ""
    if len(inner) > 1 and all(map(cell_type_of, inner)) and not any(map(cell_type_of, outer)):
        return (
            f"the folders {shown}: the classes are inside; set index.columns.pattern: {above}<group>/<label>/<file>",
            "",
        )
    if not inner:
        return "", ""
    patients = f"if these are patients, set index.columns.pattern: {above}<label>/<group>/<file>"
    classes = f"if these are the classes, set index.columns.pattern: {above}<group>/<label>/<file>"
    repeated = len(inner) > 1 and len(outer) > 1 and len(levels) > len(inner) and not all(map(cell_type_of, outer))
    return "", f"the folders {shown}: {f'{classes}; ' if repeated else ''}{patients}"


def _default_places(folders: list[str], divided: bool) -> tuple[str | None, None, str | None]:
    """Return label, group and split of an image in these folders."""
    split = folders.pop(0) if divided and folders else None
    return folders[0] if folders else None, None, split


def _utf8(name: str, root: Path) -> str:
    """Return the name; raises InputError where a table could not hold it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{root}: the file name {ascii(name)} is not UTF-8; rename the file") from None
    return name


def own_split(frame: pd.DataFrame, column: str | None, path: Path) -> list[str | None]:
    """Return the texts of a table's split, None where it has none."""
    if column is None:
        return [None] * len(frame)
    # The default name may be absent; a name that the user chose may not. A rule hands on all settings, so the step
    # cannot tell which of them were set.
    if held_column(list(frame.columns), column) is None and column == Columns.model_fields["split"].default:
        return [None] * len(frame)
    return column_of(frame, column, path, SETTINGS["split"])


def found_files(listing: Listing) -> Listing:
    """Return the listing with the names of files as they are on the disk, notes on those that differ, and what is lost.

    A file that another row names, or that two names lead to, is taken for none but its own.
    """
    if listing.root is None:
        return listing
    finder = Finder(listing.root)
    names: list[str] = listing.frame["file"].tolist()
    found = [finder.find(name) for name in names]
    taken = Counter(os.path.normpath(entry[0]) for entry in found if entry)
    files, lost = list(names), {}
    told: dict[str, tuple[int, str]] = {}
    for place, (name, entry) in enumerate(zip(names, found, strict=True)):
        if entry is None or (entry[1] and taken[os.path.normpath(entry[0])] > 1):
            full = os.path.abspath(os.path.join(listing.root, name.replace("\x00", "?")))
            lost[place] = f"no such file: {full}; {TRIED}"
        elif entry[1]:
            files[place] = entry[0]
            count, example = told.get(entry[1], (0, f"{name}: {entry[0]}"))
            told[entry[1]] = (count + 1, example)
    how = {"~": "with ~ as the home folder", "slashes": "with / for \\", "case": "with another case",
           "suffix": "with another suffix"}  # fmt: skip
    notes = [f"{count} files were found {how[kind]}, for instance {example}" for kind, (count, example) in told.items()]
    advice = finder.near(names[0]) if len(lost) == len(names) else ""
    frame = listing.frame.assign(file=pd.Series(files, listing.frame.index, dtype=object))
    return replace(listing, frame=frame, notes=[*listing.notes, *notes], lost=lost, advice=advice)
