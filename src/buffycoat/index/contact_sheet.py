"""A page with some images of each class, as the lists and folders name them: what `buffycoat init --sheet` writes."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from buffycoat.data.cell_types import name_of
from buffycoat.data.images import ImageProblem, decode_bytes
from buffycoat.data.locations import Location, locations_of, read_encoded
from buffycoat.data.pages import data_address, sized, write_page
from buffycoat.index.boxes import names_left_out
from buffycoat.index.classes import Reading, read_labels
from buffycoat.index.listings import boxes_in, listing_of
from buffycoat.index.lists import kind_of
from buffycoat.index.make_index import Given, given_boxes
from buffycoat.index.make_labels import read_opinions
from buffycoat.index.settings import Index

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


def tile(place: Location, given: Given | None) -> dict[str, str]:
    """Return the picture of one image, or of the cell in a box and what is around it, or why there is none."""
    try:
        pixels = decode_bytes(read_encoded(place))
    except ImageProblem as problem:
        return {"picture": "", "reason": str(problem)}
    except OSError as problem:
        return {"picture": "", "reason": str(problem.strerror)}
    seen = pixels if given is None else given.window(pixels)
    if seen is None:
        return {"picture": "", "reason": "the box shows no cell"}
    return {"picture": data_address(sized(seen, SIDE_PX)), "reason": ""}


def listed_labels(data: str, settings: Index) -> pd.DataFrame:
    """Return the images that the data list, with their labels; `path` opens their files. Raises as the index does."""
    boxed = boxes_in(data, settings.columns, settings.make_index)
    others = [] if boxed is None else names_left_out(set(boxed["label"].dropna()), settings.make_labels)
    listing = listing_of(data, settings.columns, settings.make_index, others)
    opinions = read_opinions(Path(data), settings.columns, settings.make_labels).frame
    paths = [os.path.join(listing.root or "", name) for name in listing.frame["file"]]
    return listing.frame.assign(path=paths).merge(opinions, on="image_id", how="left", validate="one_to_one")


def write_sheet(data: str, settings: Index, lines: list[str], path: Path) -> None:
    """Write the page; `lines` are what `init` says of the data. Raises InputError as the index does."""
    frame = listed_labels(data, settings)
    given = given_boxes(frame)
    boxes: list[Given | None] = [*given] or [None] * len(frame)
    seen = list(zip(locations_of(frame), boxes, strict=True))
    labels = Counter(frame.loc[frame["role"] == "train", "label"].dropna())
    reading = read_labels(kind_of(data), settings.make_labels, labels)
    parts: list[dict[str, Any]] = []
    for name, rows in rows_by_part(frame, reading):
        places = np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).round().astype(int)
        tiles = [{"file": rows.loc[k, "image_id"], **tile(*seen[k])} for k in rows.index[places]]
        full = name_of(name)
        parts.append({"name": name, "full": full if full != name else "", "images": len(rows), "tiles": tiles})
    write_page("sheet.html.j2", {"lines": lines, "parts": parts}, path, package="buffycoat.index")
