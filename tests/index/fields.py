"""Small drawn fields with boxes, in the forms that annotation tools write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 96, 64


class Cell(NamedTuple):
    """A box in pixels and its label."""

    label: str
    left: float
    top: float
    right: float
    bottom: float


CELLS = {
    "a_1": [Cell("Neutrophil", 4, 6, 34, 36), Cell("RBC", 40, 10, 60, 30), Cell("Lymphocyte", 60, 20, 90, 50)],
    "a_2": [Cell("Platelets", 1, 1, 9, 9), Cell("Monocyte", 30, 20, 60, 50)],
    "b_1": [Cell("Lymphocyte", 10, 10, 40, 40)],
    "b_2": [Cell("RBC", 40, 10, 60, 30)],
}
WHITE = 4


def image(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def images(folder: Path, suffix: str = ".png") -> None:
    for seed, name in enumerate(CELLS):
        image(folder / f"{name}{suffix}", seed)


def xml(name: str, cells: list[Cell], suffix: str = ".png", size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    things = "".join(
        f"<object><name>{cell.label}</name><bndbox><xmin>{cell.left}</xmin><ymin>{cell.top}</ymin>"
        f"<xmax>{cell.right}</xmax><ymax>{cell.bottom}</ymax></bndbox></object>"
        for cell in cells
    )
    return (
        f"<annotation><folder>somewhere</folder><filename>{name}{suffix}</filename>"
        f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>{things}</annotation>"
    )


def voc(folder: Path) -> Path:
    images(folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    for name, cells in CELLS.items():
        (folder / "Annotations" / f"{name}.xml").write_text(xml(name, cells))
    return folder


def yolo(folder: Path, with_names: str = "data.yaml") -> Path:
    names = sorted({cell.label for cells in CELLS.values() for cell in cells})
    images(folder / "images", ".jpg")
    (folder / "labels").mkdir()
    for name, cells in CELLS.items():
        lines = [
            f"{names.index(cell.label)} {(cell.left + cell.right) / 2 / WIDTH} {(cell.top + cell.bottom) / 2 / HEIGHT}"
            f" {(cell.right - cell.left) / WIDTH} {(cell.bottom - cell.top) / HEIGHT}"
            for cell in cells
        ]
        (folder / "labels" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    if with_names == "data.yaml":
        text = f"train: images\nval: images\nnc: {len(names)}\nnames: {json.dumps(names)}\n"
        (folder / "data.yaml").write_text(text)
    elif with_names:
        (folder / with_names).write_text("\n".join(names) + "\n")
    return folder


def coco_content(fields: dict[str, list[Cell]], suffix: str = ".png") -> dict[str, object]:
    names = sorted({cell.label for cells in fields.values() for cell in cells})
    annotations = [
        {"id": k, "image_id": place, "category_id": names.index(cell.label) + 5,
         "bbox": [cell.left, cell.top, cell.right - cell.left, cell.bottom - cell.top], "iscrowd": 0}
        for k, (place, cell) in enumerate((p, c) for p, cells in enumerate(fields.values()) for c in cells)
    ]  # fmt: skip
    return {
        "images": [
            {"id": place, "file_name": f"{name}{suffix}", "width": WIDTH, "height": HEIGHT}
            for place, name in enumerate(fields)
        ],
        "annotations": annotations,
        "categories": [{"id": place + 5, "name": name} for place, name in enumerate(names)],
    }


def coco(folder: Path) -> Path:
    images(folder / "images")
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_default.json").write_text(json.dumps(coco_content(CELLS)))
    return folder


def table(folder: Path) -> Path:
    images(folder)
    lines = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    lines += [
        f"{name}.png,{WIDTH},{HEIGHT},{cell.label},{cell.left},{cell.top},{cell.right},{cell.bottom}"
        for name, cells in CELLS.items()
        for cell in cells
    ]
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n")
    return folder / "boxes.csv"
