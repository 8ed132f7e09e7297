"""A page with some images of each class, as the lists and folders name them: what `buffycoat init --sheet` writes."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from buffycoat.data.cell_types import name_of
from buffycoat.data.images import ImageProblem, decode_image
from buffycoat.data.pages import data_address, sized, write_page
from buffycoat.index.classes import Reading, read_labels
from buffycoat.index.lists import kind_of
from buffycoat.index.make_labels import read_opinions
from buffycoat.index.settings import Index
from buffycoat.index.sources import found_files, read_listing

SHOWN, SIDE_PX = 10, 96
"""Images of a class that are shown, at most, and the longer side of their pictures, pixels."""


def rows_by_part(frame: pd.DataFrame, reading: Reading) -> list[tuple[str, pd.DataFrame]]:
    """Return the images of each class in training, of none, and for testing, each with what they are called."""
    training, testing = frame[frame["role"] == "train"], frame[frame["role"] == "test"]
    given = training["label"]
    left_out = given.isin([label for label in given.dropna().unique() if reading.is_left_out(label)])
    named = given[~left_out].map(reading.class_of, na_action="ignore")
    order = {code: place for place, code in enumerate(reading.codes)}
    names = sorted(named.dropna().unique(), key=lambda name: (order.get(name, len(order)), name))
    parts = [(str(name), training.loc[named.index[named == name]]) for name in names]
    parts += [("without a label", training[given.isna()]), ("left out", training[left_out]), ("for testing", testing)]
    return [(name, rows) for name, rows in parts if len(rows)]


def tile(name: str, root: Path) -> dict[str, str]:
    """Return the picture of one image, or why there is none."""
    try:
        return {"picture": data_address(sized(decode_image(Path(os.path.join(root, name))), SIDE_PX)), "reason": ""}
    except ImageProblem as problem:
        return {"picture": "", "reason": str(problem)}


def write_sheet(data: str, settings: Index, lines: list[str], path: Path) -> None:
    """Write the page; `lines` are what `init` says of the data. Raises InputError as the index does."""
    listing = found_files(read_listing(data, settings.columns, settings.make_index))
    opinions = read_opinions(Path(data), settings.columns, settings.make_labels).frame
    frame = listing.frame.merge(opinions, on="image_id", how="left", validate="one_to_one")
    labels = Counter(frame.loc[frame["role"] == "train", "label"].dropna())
    reading = read_labels(kind_of(data), settings.make_labels, labels)
    parts: list[dict[str, Any]] = []
    for name, rows in rows_by_part(frame, reading):
        places = np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).round().astype(int)
        tiles = [{"file": file, **tile(file, listing.root)} for file in rows["file"].iloc[places]]
        full = name_of(name)
        parts.append({"name": name, "full": full if full != name else "", "images": len(rows), "tiles": tiles})
    write_page("sheet.html.j2", {"lines": lines, "parts": parts}, path, package="buffycoat.index")
