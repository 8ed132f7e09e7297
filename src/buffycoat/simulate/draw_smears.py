"""Step `draw_smears`: the embedded data set, in the layout of WBCBench 2026, with the truth beside it."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy.typing as npt
import pandas as pd

from buffycoat.core.files import whole_folder
from buffycoat.core.progress import track
from buffycoat.core.steps import run
from buffycoat.data.degradations import DEGRADATIONS
from buffycoat.data.images import CYTOPLASM, NUCLEUS, Pixels
from buffycoat.data.random import stream
from buffycoat.simulate.painting import draw_field, draw_slide
from buffycoat.simulate.patients import plan_dataset
from buffycoat.simulate.settings import DrawSmears

FOLDERS = {"phase1": "phase1", "train": "phase2/train", "eval": "phase2/eval", "test": "phase2/test"}
LISTS = {
    "phase1": "phase1_label.csv",
    "train": "phase2_train.csv",
    "eval": "phase2_eval.csv",
    "test": "phase2_test.csv",
}
MASK_LEVELS = {CYTOPLASM: 128, NUCLEUS: 255}
"""Grey levels of the truth's mask files; 0 is everything else."""


def draw_image(row: dict[str, Any], seed: int) -> tuple[Pixels, Pixels, Pixels]:
    """Return (image as delivered, clean original, mask) of one row of the plan; depends on the row and seed alone."""
    slide = draw_slide(stream(seed, "slide", int(row["patient"])))
    clean, mask = draw_field(str(row["label"]), slide, stream(seed, "field", str(row["ID"])))
    if row["kind"] == "none":
        return clean, clean, mask
    degrade = DEGRADATIONS[str(row["kind"])]
    return degrade(clean, float(row["severity"]), stream(seed, "degrade", str(row["ID"]))), clean, mask


def _write(path: Path, image: npt.NDArray[Any], options: list[int]) -> None:
    encoded, data = cv2.imencode(path.suffix, image, options)
    if not encoded:
        raise RuntimeError(f"{path}: OpenCV cannot encode this image")
    path.write_bytes(data.tobytes())


def draw_rows(rows: list[dict[str, Any]], folder: Path, seed: int, quality: int) -> int:
    """Draw and write some rows of the plan below `folder`; return their number."""
    cv2.setNumThreads(1)
    jpeg, png = [cv2.IMWRITE_JPEG_QUALITY, quality], [cv2.IMWRITE_PNG_COMPRESSION, 1]
    for row in rows:
        image, clean, mask = draw_image(row, seed)
        name = Path(str(row["ID"]))
        _write(folder / FOLDERS[row["part"]] / name, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), jpeg)
        levels = mask.copy()
        for value, level in MASK_LEVELS.items():
            levels[mask == value] = level
        _write(folder / "truth" / "masks" / name.with_suffix(".png"), levels, png)
        if row["kind"] != "none":
            _write(folder / "truth" / "clean" / name.with_suffix(".png"), cv2.cvtColor(clean, cv2.COLOR_RGB2BGR), png)
    return len(rows)


def write_lists(plan: pd.DataFrame, folder: Path) -> None:
    """Write the challenge's four CSVs as they are published, the answers of the test part, and the list of masks."""
    for part, name in LISTS.items():
        rows = plan[plan["part"] == part]
        if part == "test":
            lines = ["ID,labels", *(f"{row.ID}," for row in rows.itertuples())]
        else:
            split = "phase1_train" if part == "phase1" else f"phase2_{part}"
            # The published list of phase 1 ends each line with three empty columns.
            tail = ",,," if part == "phase1" else ""
            lines = [f"ID,labels,split{tail}", *(f"{row.ID},{row.label},{split}{tail}" for row in rows.itertuples())]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    plan[plan["part"] == "test"][["ID", "label"]].rename(columns={"label": "labels"}).to_csv(
        folder / "test_labels.csv", index=False
    )
    plan.to_csv(folder / "truth" / "cells.csv", index=False)
    names = [Path(str(name)) for name in plan["ID"]]
    images = [f"{FOLDERS[str(part)]}/{name}" for part, name in zip(plan["part"], names, strict=True)]
    masks = [f"truth/masks/{name.with_suffix('.png')}" for name in names]
    pd.DataFrame({"image": images, "mask": masks, "nucleus_marked": 1}).to_csv(folder / "masks.csv", index=False)


def draw_all(plan: pd.DataFrame, folder: Path, seed: int, quality: int, threads: int) -> None:
    """Draw every row of the plan below `folder`, in `threads` processes; the result does not depend on how many."""
    for name in (*FOLDERS.values(), "truth/masks", "truth/clean"):
        (folder / name).mkdir(parents=True)
    rows: list[dict[str, Any]] = plan.to_dict("records")  # type: ignore[assignment]
    chunks = [rows[start : start + 32] for start in range(0, len(rows), 32)]
    if threads == 1:
        for chunk in track(chunks, "draw_smears", "batches of 32"):
            draw_rows(chunk, folder, seed, quality)
        return
    with ProcessPoolExecutor(threads, multiprocessing.get_context("spawn")) as pool:
        done = [pool.submit(draw_rows, chunk, folder, seed, quality) for chunk in chunks]
        for future in track(done, "draw_smears", "batches of 32"):
            future.result()


def draw_smears(*, smears: Path, seed: int, threads: int = 1, settings: DrawSmears) -> None:
    """Draw the data set into the folder `smears`, which is replaced whole."""
    plan = plan_dataset(settings.images, settings.patients, settings.least_per_class, seed)
    with whole_folder(smears) as folder:
        draw_all(plan, folder, seed, settings.jpeg_quality, threads)
        write_lists(plan, folder)


if __name__ == "__main__":
    run(draw_smears)
