"""Words that people use for parts of a data set, for columns, and for white blood cells. No heavy imports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from buffycoat.data.cell_types import CELL_TYPES

Part = Literal["train", "val", "test"]
PARTS: dict[str, Part] = {
    **dict.fromkeys(("train", "training", "fit", "learn", "learning", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing", "holdout", "heldout"), "test"),
}
"""Words for a part of a data set, in any case, and the part."""
BESIDE_PARTS = {"set", "sets", "data", "dataset", "split", "part", "partition", "subset", "phase", "fold", "folder",
                "images", "image", "samples", "sample", "cases", "cells"}  # fmt: skip
"""Words that may stand beside such a word and change nothing; so may numbers and single letters."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "image": ("image", "images", "filename", "file", "path", "filepath", "imagepath", "imagefile", "imagename", "img",
              "imgpath", "imgname", "imageid", "imagefilename", "filenames"),
    "label": ("label", "labels", "class", "classname", "classlabel", "cellclass", "category", "diagnosis", "celltype",
              "type", "target", "annotation"),
    "split": ("split", "fold", "set", "subset", "partition", "part", "phase", "usage", "dataset", "traintest", "stage",
              "istest", "istrain", "testset"),
    "group": ("group", "patient", "patientid", "patienthash", "subject", "subjectid", "case", "caseid", "slide",
              "slideid", "donor", "donorid", "participant", "participantid", "person", "pid"),
}  # fmt: skip
"""Names, without case and punctuation, that a column often has, by what it then holds."""
BOXES = (
    {"xmin", "ymin", "xmax", "ymax"}, {"x1", "y1", "x2", "y2"}, {"x", "y", "width", "height"}, {"x", "y", "w", "h"},
    {"xcenter", "ycenter", "width", "height"}, {"left", "top", "right", "bottom"}, {"bbox"},
)  # fmt: skip
"""Sets of such names that together are boxes."""

SPELLINGS = {
    **dict.fromkeys(("lymph", "lympho", "lym", "lymphocytic"), "lymphocyte"),
    **dict.fromkeys(("neut", "neutro", "neutrophilic", "pmn", "polymorphonuclear"), "neutrophil"),
    **dict.fromkeys(("eos", "eosino", "eosinophilic"), "eosinophil"),
    **dict.fromkeys(("baso", "basophilic"), "basophil"),
    **dict.fromkeys(("mono", "monocytic"), "monocyte"),
    **dict.fromkeys(("seg", "segment"), "segmented"),
    **dict.fromkeys(("stab", "banded"), "band"),
    **dict.fromkeys(("atypical", "reactive"), "variant"),
    **dict.fromkeys(("plasmacyte",), "plasma"),
}
"""Words for a cell that mean the same as another."""
GAPS = ("na", "n/a", "nan", "<na>", "null", "#n/a")
"""Texts, in any case, by which R, pandas and spreadsheets write that there is no value."""
BESIDE_CELLS = {"cell", "form", "type", "granulocyte", "nuclear", "wbc", "white", "blood",
                "typical", "normal", "mature"}  # fmt: skip
"""Words that may stand beside these and change nothing."""
CELLS: dict[frozenset[str], str] = {
    **{frozenset(name.replace(" cell", "").split()): code for code, name in CELL_TYPES.items()},
    frozenset({"segmented"}): "SNE",
    frozenset({"neutrophil"}): "SNE",
    frozenset({"band"}): "BNE",
}
"""Codes by the words of a name. A neutrophil of which no more is said is a segmented one: bands are named as such."""


def split_words(text: str) -> list[str]:
    """Return the words of a name in lower case: `TestSet_2`, `test set 2` and `test-set-2` are the same."""
    joined = re.sub(r"(?i)\b(hold|held)[ _-]out\b", r"\1out", text.replace("_", " "))
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", joined)
    return [word.lower() for word in re.findall(r"[^\W\d_]+|\d+", apart)]


def part_of(name: str) -> Part | None:
    """Return the part of a data set that a name of a folder or a value of a column means, in any case; None for none.

    A name that begins with `test` always means it: what is scored must not be learned from.
    """
    found: set[Part] = set()
    others = []
    words = split_words(name)
    for word in words:
        part = PARTS.get(word) or PARTS.get(re.sub(r"(set|data)$", "", word))
        if part:
            found.add(part)
        elif word not in BESIDE_PARTS and not word.isdigit() and len(word) > 1:
            others.append(word)
    if len(found) != 1 or (others and not (words[0] in ("test", "testing") and found == {"test"})):
        return None
    return found.pop()


def plain(name: str) -> str:
    """Return a column's name in lower case, without blanks and punctuation."""
    return re.sub(r"[\W_]", "", name).lower()


def held_column(names: Sequence[str], wanted: str) -> str | None:
    """Return which of the names is the wanted one: exactly, or the only one that differs by case alone."""
    if wanted in names:
        return wanted
    found = [name for name in names if name.strip().lower() == wanted.strip().lower()]
    return found[0] if len(found) == 1 else None


def likely_columns(names: Sequence[str], what: str) -> list[str]:
    """Return the names that a column with `what` (a key of COLUMNS) often has."""
    return [name for name in names if plain(name) in COLUMNS[what]]


def box_columns(names: Sequence[str]) -> list[str]:
    """Return the names that together look like boxes on an image; none where there are none."""
    known = {re.sub(r"^(bbox|box)(?=.)", "", plain(name)): name for name in names}
    return next(([name for key, name in known.items() if key in box] for box in BOXES if box <= set(known)), [])


def words_of_cell(label: str) -> frozenset[str]:
    """Return the words that tell one name of a cell from another: without case, order, plural and words beside them."""
    words = []
    for word in split_words(label):
        one = word if word in SPELLINGS or len(word) < 4 else re.sub(r"s$", "", word)
        words.append(SPELLINGS.get(one, SPELLINGS.get(one.removesuffix("s"), one)))
    return frozenset(word for word in words if word not in BESIDE_CELLS)


def cell_type_of(label: str) -> str | None:
    """Return the code of the thirteen that a label is, in any case, or is a name of; None for any other label."""
    if label.strip().upper() in CELL_TYPES:
        return label.strip().upper()
    return CELLS.get(words_of_cell(label))
