"""Boxes on fields as rows of cells: which of them are white cells, their names, fields and slides."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.data.tables.index import BOX
from buffycoat.index.annotations import Box, numbers, read_annotations
from buffycoat.index.forms import columns_of_boxes
from buffycoat.index.settings import MakeLabels
from buffycoat.index.words import cell_type_of, part_of

NO_WHITE_CELLS = (
    "rbc", "redblood", "redcell", "erythrocyt", "platelet", "thrombocyt", "plt", "reticulocyt", "parasite",
    "trophozoit", "schizont", "gametocyt", "plasmodium", "artefact", "artifact", "debris", "dust", "background",
)  # fmt: skip
"""What the name of a box holds, in small letters alone, that is on no white cell."""
WHITE_CELLS = (
    "wbc", "whiteblood", "whitecell", "leukocyt", "leucocyt", "neutro", "lympho", "mono", "eosino", "baso", "blast",
    "myelo", "plasma", "granulocyt", "band", "segment",
)  # fmt: skip
"""What the name of a white cell may hold, besides the codes: such a box stays where the classes name others."""
SHARES = 1.01
"""Where no side of any box exceeds this, the sides are shares of the field's; a rounded one may pass 1."""
ROWS = ["image_id", "file", "field", "label", "group", "split", "role", *BOX, "relative", "size", "place"]
"""What is known of every box. `size` is the field's width and height as its annotation has them."""


def table_boxes(
    frame: pd.DataFrame, path: Path, texts: Mapping[str, Sequence[str | None]], root: Path
) -> tuple[list[Box], list[str]]:
    """Return the boxes of a table's rows, and the images of rows without one.

    Parameters: frame, the table, whose index is the line of each row; texts, its columns image, label, group and split
    as text. Raises InputError naming the line where a box is no four numbers.
    """
    found = columns_of_boxes(frame.columns)
    if found is None:
        raise ValueError("the table has no boxes")
    kind, names = found
    counts: Counter[str] = Counter()
    boxes, empty = [], []
    held = {name: [None if pd.isna(v) or not str(v).strip() else v for v in frame[name]] for name in names}
    for order, line in enumerate(frame.index):
        place, image = f"{path}: line {line}", texts["image"][order]
        if image is None:
            raise InputError(f"{place}: the image's name is empty")
        values = [held[name][order] for name in names]
        if all(value is None for value in values):
            empty.append(image)
            continue
        if None in values:
            raise InputError(f"{place}: not all of {', '.join(names)} have a value; fill them in, or remove the row")
        a, b, c, d = numbers(values, place)
        corners = {"corners": (a, b, c, d), "starts": (a, b, a + c, b + d)}.get(
            kind, (a - c / 2, b - d / 2, a + c / 2, b + d / 2)
        )
        counts[image] += 1
        label, group, split = (texts[name][order] for name in ("label", "group", "split"))
        file = str(root / image)
        boxes.append(Box(image, file, counts[image], place, label, split, corners, False, None, group))
    if boxes and max(side for box in boxes for side in box.box) <= SHARES:
        boxes = [box._replace(relative=True) for box in boxes]
    return boxes, empty


def rows_of(boxes: Sequence[Box]) -> pd.DataFrame:
    """Return a row per box with the columns ROWS; raises InputError where two boxes would have one name."""
    tests = [part_of(box.split or "") == "test" for box in boxes]
    rows = [
        (f"{box.field}#{box.number}", box.file, box.field, box.label, box.group, box.split, "test" if test else "train",
         *box.box, box.relative, box.size, box.place)
        for box, test in zip(boxes, tests, strict=True)
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=ROWS).astype(dict.fromkeys(ROWS[:7], object))
    twice = frame[frame.duplicated("image_id")]
    if not twice.empty:
        first = frame[frame["image_id"] == twice["image_id"].iloc[0]]["place"].iloc[0]
        name = twice["field"].iloc[0]
        raise InputError(f"{twice['place'].iloc[0]}: a second field of the name {name} (first: {first}); rename one")
    return frame


def annotated_rows(data: Path, root: Path | None = None) -> tuple[pd.DataFrame, list[str]]:
    """Return a row per box of Pascal VOC, YOLO or COCO, with the columns ROWS, and the fields without a box."""
    found = read_annotations(data, root)
    if not found.boxes:
        raise InputError(f"data: {data}: annotations of fields, but not one box in them")
    return rows_of(found.boxes), found.empty


def _is_other(name: str) -> bool:
    plain = re.sub(r"[^a-z]", "", name.lower())
    return any(word in plain for word in NO_WHITE_CELLS)


def _is_white_cell(name: str) -> bool:
    plain = re.sub(r"[^a-z]", "", name.lower())
    return cell_type_of(name) is not None or any(word in plain for word in WHITE_CELLS)


def names_left_out(names: Iterable[str], settings: MakeLabels) -> list[str]:
    """Return, in order, the names of boxes that are no white cells: such boxes are no rows.

    A name that the settings map or list as a class is a white cell. Otherwise red cells, platelets and the like are
    none; where the classes are listed, neither is any name that is no name of a white cell.
    """
    listed = None if settings.classes == "auto" else {*settings.classes}
    others = set()
    for name in names:
        if name in settings.label_aliases or (listed is not None and name in listed):
            continue
        if _is_other(name) or (listed is not None and not _is_white_cell(name)):
            others.add(name)
    return sorted(others)


def white_cells(rows: pd.DataFrame, others: Sequence[str], data: str) -> tuple[pd.DataFrame, str]:
    """Return the rows of white cells, and a sentence on how many there are and were left out, by name.

    Raises InputError where none is left.
    """
    out = rows["label"].isin(list(others))
    kept = rows[~out].reset_index(drop=True)
    if kept.empty:
        raise InputError(
            f"data: {data}: none of {len(rows)} boxes is of a white cell ({', '.join(others)}); name yours in"
            " index.make_labels.classes"
        )
    return kept, f"{data}: {count_line(rows, others)}"


def count_line(rows: pd.DataFrame, others: Sequence[str]) -> str:
    """Return how many white cells on how many fields there are, and the boxes of other things by name."""
    out = rows["label"].isin(list(others))
    counts = Counter(rows.loc[out, "label"])
    left = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    kept = rows[~out]
    line = f"{len(kept)} boxes of white cells on {kept['field'].nunique()} of {rows['field'].nunique()} fields"
    return line + (f"; left out by name: {left}" if left else "")


def slides_of(rows: pd.DataFrame, pattern: str | None) -> tuple[pd.Series, list[str]]:
    """Return the group of each row (given, or found by `pattern` in the field's name, or the field), and notes.

    Raises InputError where the pattern finds nothing in any name.
    """
    fields, notes = rows["field"], []
    if pattern is not None:
        found = [re.search(pattern, str(field)) for field in fields]
        named = [None if match is None else (match[1] if match.re.groups else match[0]) for match in found]
        if not any(named):
            raise InputError(
                f"index.make_labels.group_pattern: {pattern!r} finds nothing in the names of the fields, for instance"
                f" {fields.iloc[0]}"
            )
        missed = sum(not name for name in named)
        if missed:
            notes.append(f"group_pattern finds nothing in the fields of {missed} cells: each field is its own group")
        fields = pd.Series([name or field for name, field in zip(named, fields, strict=True)], index=rows.index)
    given = rows["group"]
    return given.where(given.notna(), fields).astype(object), notes


def one_class(rows: pd.DataFrame, settings: MakeLabels) -> str | None:
    """Return a sentence where the boxes of white cells that teach have fewer than two names; None where all is well."""
    kept = rows[~rows["label"].isin(names_left_out(set(rows["label"].dropna()), settings)) & (rows["role"] == "train")]
    named = {settings.label_aliases.get(label, label) for label in kept["label"].dropna()}
    names = {name for name in named if name is not None}
    if len(names) > 1:
        return None
    called = f"are all called {min(names)!r}" if names else "have no name"
    return (
        f"the {len(kept)} boxes of white cells to learn from {called}: a classifier needs at least two classes; give"
        " each box its class, for instance in a table with the columns image, label, xmin, ymin, xmax, ymax"
    )


def rows_without_labels(rows: pd.DataFrame) -> str:
    """Return 16 hexadecimal digits that change with the boxes, their fields and their parts, not with their labels."""
    columns = ["image_id", "file", "split", *BOX, "relative", "size"]
    return hashlib.sha256(json.dumps(rows[columns].to_numpy().tolist(), default=str).encode()).hexdigest()[:16]


def rows_with_labels(rows: pd.DataFrame) -> str:
    """Return 16 hexadecimal digits that change with the names, labels and groups of the boxes."""
    columns = ["image_id", "label", "group"]
    return hashlib.sha256(json.dumps(rows[columns].to_numpy().tolist(), default=str).encode()).hexdigest()[:16]


def on_field(box: np.ndarray, size: tuple[int, int] | None, width: int, height: int) -> tuple[np.ndarray | None, str]:
    """Return a box cut at the border of its field of width x height pixels; None and why where it shows no cell.

    `box` and the result are left, top, right and bottom, pixels; `size` is the width and height of the field as its
    annotation has them.
    """
    if size is not None and tuple(size) != (width, height):
        return None, f"its annotation is of an image of {size[0]}x{size[1]} pixels, the file has {width}x{height}"
    shown = "left {:g}, top {:g}, right {:g}, bottom {:g}".format(*box)
    if box[2] <= box[0] or box[3] <= box[1]:
        return None, f"the box has no area ({shown})"
    inside = np.clip(box, 0, [width, height, width, height])
    sides = inside[2:] - inside[:2]
    if sides.min() < LEAST_SIDE:
        where = "lies outside" if sides.min() == 0 else "has hardly a pixel in"
        return None, f"the box {where} the image of {width}x{height} pixels ({shown})"
    return inside, ""


LEAST_SIDE = 4.0
"""A box of fewer pixels across shows no cell; ours."""
SAME_CELL = 0.7
"""Two boxes of one field whose intersection is more than this share of their union are of one cell; ours."""


def cell_keys(frame: pd.DataFrame, column: str = "sha256") -> pd.Series:
    """Return what tells the pixels of a row from others: `column`, and on a field with boxes which cell it is.

    Boxes that nearly coincide are of one cell, also where the field is there twice under two names.
    """
    keys = frame[column].astype(object).copy()
    if "left" not in frame.columns:
        return keys
    boxed = frame[frame["left"].notna() & frame[column].notna()]
    for field, rows in boxed.groupby(column, sort=False):
        boxes = rows[list(BOX)].to_numpy(np.float64)
        firsts: list[int] = []
        for place in range(len(boxes)):
            same = next((k for k, first in enumerate(firsts) if overlap(boxes[first], boxes[place]) > SAME_CELL), None)
            if same is None:
                firsts.append(place)
                same = len(firsts) - 1
            keys.loc[rows.index[place]] = f"{field}#{same}"
    return keys


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the intersection over union of two boxes (left, top, right, bottom), 0..1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return float(shared / (areas - shared)) if areas > shared else 0.0
