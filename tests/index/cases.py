"""Small data sets of the stage `index`, and its first two steps with paths filled in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from buffycoat.core.files import read_json
from buffycoat.data.labels import labelled
from buffycoat.data.tables.index import IMAGES, LABELS
from buffycoat.index.lists import folders_of, lists_of
from buffycoat.index.make_index import make_index
from buffycoat.index.make_labels import make_labels
from buffycoat.index.settings import Columns, MakeIndex, MakeLabels


def picture(path: Path, seed: int, side: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(path, quality=95)
    return path


def index(folder: Path, table: str, **settings: object) -> tuple[pd.DataFrame, dict[str, object]]:
    """Write the table, run both steps, return the images with their labels and the summary."""
    (folder / "cells.csv").write_text(table, encoding="utf-8")
    return run_index(folder / "cells.csv", **settings)


def run_index(data: Path, out: Path | None = None, **settings: object) -> tuple[pd.DataFrame, dict[str, object]]:
    """Run both steps on what the data are; without `out` the results are in the folder `out` beside them."""
    out = out or data.parent / "out"
    of_labels = {name: value for name, value in settings.items() if name in MakeLabels.model_fields}
    named = {name: value for name, value in settings.items() if name in Columns.model_fields}
    columns = Columns.model_validate(named)
    others = {name: value for name, value in settings.items() if name not in {*of_labels, *named}}
    listing = MakeIndex.model_validate(others)
    lists = [Path(name) for name in lists_of(str(data))]
    folders = [Path(name) for name in folders_of(str(data))]
    make_index(
        data=data, lists=lists, folders=folders, images=out / "images.parquet", pixels=out / "pixels.parquet",
        threads=2, columns=columns, settings=listing,
    )  # fmt: skip
    relabel(data, columns, MakeLabels.model_validate(of_labels), out)
    images = labelled(IMAGES.read(out / "images.parquet"), LABELS.read(out / "labels.parquet"))
    return images, read_json(out / "summary.json")


def relabel(data: Path, columns: Columns, settings: MakeLabels, out: Path | None = None) -> pd.DataFrame:
    """Run the second step alone; return the labels."""
    out = out or data.parent / "out"
    make_labels(
        data=data, images=out / "images.parquet", pixels=out / "pixels.parquet", labels=out / "labels.parquet",
        classes=out / "classes.parquet", test_labels=out / "test_labels.parquet", summary=out / "summary.json",
        columns=columns, settings=settings,
    )  # fmt: skip
    return LABELS.read(out / "labels.parquet")


def statuses(frame: pd.DataFrame) -> dict[str, str]:
    return dict(zip(frame["image_id"], frame["label_status"], strict=True))


def wbcbench(folder: Path) -> Path:
    """The challenge's layout with two patients' worth of cells."""
    number = 0
    lists: dict[str, list[str]] = {"phase1": [], "phase2/train": [], "phase2/eval": [], "phase2/test": []}
    for part, rows in lists.items():
        for label in ["BA", "LY", "SNE", "SNE", "BA", "LY"]:
            number += 1
            name = f"{number:08d}.jpg"
            picture(folder / part / name, number)
            rows.append(f"{name}," if part.endswith("test") else f"{name},{label},{part.replace('/', '_')}")
    tail = ",,,"
    (folder / "phase1_label.csv").write_text(
        "\n".join([f"ID,labels,split{tail}"] + [r + tail for r in lists["phase1"]])
    )
    (folder / "phase2_train.csv").write_text("\n".join(["ID,labels,split", *lists["phase2/train"]]))
    (folder / "phase2_eval.csv").write_text("\n".join(["ID,labels,split", *lists["phase2/eval"]]))
    (folder / "phase2_test.csv").write_text("\n".join(["ID,labels", *lists["phase2/test"]]))
    return folder
