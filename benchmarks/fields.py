"""Boxes on whole fields taken in: how many, how many are lost, how well their cells are found: benchmarks/fields.json.

    python -m benchmarks.fields

Sets: `chula` (YOLO, five kinds of white cells on 12 slides) and `bccd` (Pascal VOC: white cells without a kind, red
cells, platelets). Both go through the steps make_index and crop_cells. Of BCCD's held-out fields, which the embedded
segmenter never learnt from, experts have drawn the cells: the figure is the overlap with these.

The command also writes local/fields/boxes.csv, a table of all boxes with the classes that are known (of BCCD's fields
with one white cell the kind is in masks.csv), and local/fields/fields.yaml, which trains on it:

    buffycoat run local/fields/fields.yaml
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import typer

from benchmarks.machine import machine
from benchmarks.segmenter_data import DATA, rows_of
from buffycoat.core.files import write_json
from buffycoat.core.progress import start_logging
from buffycoat.crop.crop_cells import crop_cells
from buffycoat.crop.framing import LEAST_OVERLAP, MOST_OUTSIDE, overlap_with, region_of_box
from buffycoat.crop.settings import CropCells
from buffycoat.data.images import BACKGROUND, CellImages, Pixels, decode_image
from buffycoat.data.locations import boxes_of
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import BOX, IMAGES, decodable
from buffycoat.index.boxes import names_left_out, slides_of
from buffycoat.index.listings import boxes_in
from buffycoat.index.make_index import make_index
from buffycoat.index.settings import Columns, MakeIndex, MakeLabels

FOLDER = Path(__file__).parent.parent / "local" / "fields"
CROP = CropCells(window_px=280, size_px=128)
CODES = {"Neutrophil": "NE", "Eosinophil": "EO", "Basophil": "BA", "Lymphocyte": "LY", "Monocyte": "MO"}
SETS: dict[str, tuple[Path, Path | None, str | None]] = {
    "chula": (DATA / "fields" / "chula", None, r"^[^_]+"),
    "bccd": (DATA / "fields" / "bccd_annotations", DATA / "masks" / "bccd", None),
}
"""Of each set its annotations, its fields where they are elsewhere, and what finds the slide in a field's name."""


def counts_of(values: pd.Series) -> dict[str, int]:
    """Return how often each value stands there, the most frequent first."""
    return {str(value): int(count) for value, count in values.value_counts().items()}


def taken_in(name: str, threads: int) -> dict[str, Any]:
    """Return what becomes of the boxes of a set, and the seconds per field; writes its tables to FOLDER."""
    data, root, pattern = SETS[name]
    listing = MakeIndex(root=str(root) if root else None)
    rows = boxes_in(str(data), Columns(), listing)
    assert rows is not None
    others = names_left_out(set(rows["label"].dropna()), MakeLabels())
    white = rows[~rows["label"].isin(others)]
    paths = {part: FOLDER / name / part for part in ("images.parquet", "pixels.parquet", "crops.parquet", "shards")}
    started = time.perf_counter()
    make_index(
        data=data, images=paths["images.parquet"], pixels=paths["pixels.parquet"], threads=threads, others=others,
        columns=Columns(), settings=listing,
    )  # fmt: skip
    indexed = time.perf_counter()
    crop_cells(
        images=paths["images.parquet"], crops=paths["crops.parquet"], shards=paths["shards"], threads=threads,
        settings=CROP,
    )  # fmt: skip
    ended = time.perf_counter()
    images, crops = IMAGES.read(paths["images.parquet"]), CROPS.read(paths["crops.parquet"])
    fields = rows["field"].nunique()
    diameters = 2 * np.sqrt(crops.loc[crops["found"], "area_px"] / np.pi) / CROP.window_px
    return {
        "fields": int(fields),
        "boxes": len(rows),
        "left_out_by_name": counts_of(rows.loc[rows["label"].isin(others), "label"]),
        "white_cells_in": len(white),
        "rows": len(images),
        "statuses": counts_of(images["status"]),
        "cropped": len(crops),
        "lost": len(white) - len(images) + len(decodable(images)) - len(crops),
        "slides": int(slides_of(white, pattern)[0].nunique()) if pattern else None,
        "found_by_the_segmenter": int(crops["found"].sum()),
        "box_alone": int((~crops["found"]).sum()),
        "diameter_to_window": {str(q): round(float(np.quantile(diameters, q)), 3) for q in (0, 0.1, 0.5, 0.9, 1)},
        "seconds_per_field": {
            "make_index": round((indexed - started) / fields, 4),
            "crop_cells": round((ended - indexed) / fields, 4),
        },
    }  # fmt: skip


def on_the_field(crop: Any, mask: Pixels, shape: tuple[int, int]) -> np.ndarray:
    """Return a crop's mask on its field, (H, W) bool."""
    side = int(crop.window_px)
    window = cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST_EXACT) != BACKGROUND
    top, left = round(crop.row - side / 2), round(crop.col - side / 2)
    whole = np.zeros((shape[0] + 2 * side, shape[1] + 2 * side), bool)
    whole[top + side : top + 2 * side, left + side : left + 2 * side] = window
    return whole[side:-side, side:-side]


def against_experts() -> dict[str, Any]:
    """Return the intersection over union of the cells in BCCD's boxes with those that experts drew, held-out fields.

    An expert's cell is the part of the drawn regions inside the box that is connected and largest.
    """
    folder = FOLDER / "bccd"
    crops = CROPS.read(folder / "crops.parquet")
    frame = crops.merge(IMAGES.read(folder / "images.parquet"), on="image_id", suffixes=("", "_of_image"))
    cells = CellImages(crops, folder / "crops.parquet")
    held = rows_of("bccd").query("held_out")
    masks = dict(zip(held["image"].map(lambda image: Path(image).name), held["mask"], strict=True))
    overlaps = []
    for place, (row, box) in enumerate(zip(frame.itertuples(), boxes_of(frame), strict=True)):
        name = Path(str(row.path)).name
        if name not in masks or box is None:
            continue
        drawn = decode_image(DATA / "masks" / str(masks[name]))[..., 0] > 0
        regions = cv2.connectedComponents((drawn & region_of_box(box, *drawn.shape)).astype(np.uint8))[1]
        areas = np.bincount(regions.ravel())[1:]
        if len(areas):
            overlaps.append(
                overlap_with(on_the_field(row, cells.mask(place), drawn.shape), regions == 1 + int(areas.argmax()))
            )
    return {
        "boxes": len(overlaps),
        "median": round(float(np.median(overlaps)), 3),
        "tenth": round(float(np.quantile(overlaps, 0.1)), 3),
        "under_half": int(np.sum(np.array(overlaps) < 0.5)),
    }


def write_table() -> dict[str, int]:
    """Write the table of both sets' boxes and the file that trains on it; return how many boxes have which class."""
    drawn = rows_of("bccd")
    kinds = dict(zip(drawn["image"].map(lambda image: Path(image).name), drawn["label"], strict=True))
    parts = []
    for name, (data, root, pattern) in SETS.items():
        rows = boxes_in(str(data), Columns(), MakeIndex(root=str(root) if root else None))
        assert rows is not None
        rows = rows[~rows["label"].isin(names_left_out(set(rows["label"].dropna()), MakeLabels()))].reset_index(
            drop=True
        )
        images = IMAGES.read(FOLDER / name / "images.parquet").set_index("image_id").loc[rows["image_id"]]
        rows[list(BOX)] = images[list(BOX)].to_numpy()
        alone = rows.groupby("file")["file"].transform("size") == 1
        of_field = rows["file"].map(lambda file: kinds.get(Path(file).name, "")).where(alone, "")
        rows["label"] = rows["label"].map(CODES) if name == "chula" else of_field
        rows["group"] = name + " " + slides_of(rows, pattern)[0]
        rows["image"] = [os.path.relpath(file, FOLDER) for file in rows["file"]]
        parts.append(rows[["image", "label", "group", *BOX]])
    table = pd.concat(parts, ignore_index=True)
    table.to_csv(FOLDER / "boxes.csv", index=False)
    (FOLDER / "fields.yaml").write_text(
        "preset: laptop\ndata: boxes.csv\nindex: {make_labels: {classes: [NE, LY, MO, EO, BA]}}\n", encoding="utf-8"
    )
    return counts_of(table["label"].replace("", "unlabelled"))


def main(threads: int = 2) -> None:
    """Take in both sets and write the figures."""
    start_logging()
    found: dict[str, Any] = {
        "command": "python -m benchmarks.fields",
        "machine": machine(),
        "threads": threads,
        "window_px": CROP.window_px,
        "least_overlap": LEAST_OVERLAP,
        "most_outside": MOST_OUTSIDE,
        "sets": {name: taken_in(name, threads) for name in SETS},
    }
    found["bccd_against_experts"] = against_experts()
    found["training_table"] = write_table()
    write_json(found, Path(__file__).with_suffix(".json"))


if __name__ == "__main__":
    typer.run(main)
