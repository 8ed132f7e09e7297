"""Step `draw_smears`: the embedded data set, in the layout of WBCBench 2026, with the truth beside it."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from buffycoat.core.files import whole_folder
from buffycoat.core.progress import track
from buffycoat.core.steps import run
from buffycoat.data.cell_types import CELL_TYPES
from buffycoat.data.degradations import DEGRADATIONS
from buffycoat.data.images import CYTOPLASM, NUCLEUS, Pixels
from buffycoat.data.random import stream
from buffycoat.simulate.painting import draw_field, draw_slide
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
JPEG_QUALITY = 92
"""Of the drawn fields, 0..100: artefacts that are there and hardly seen, as in an archive of scans; our choice."""
COUNTS: dict[str, dict[str, int]] = {
    "phase1": dict(zip(CELL_TYPES, (74, 572, 111, 181, 2344, 98, 741, 108, 2, 2, 42, 3913, 100), strict=True)),
    "train": dict(zip(CELL_TYPES, (420, 1699, 340, 798, 6886, 335, 2454, 405, 56, 11, 76, 11135, 282), strict=True)),
    "eval": dict(zip(CELL_TYPES, (60, 412, 71, 169, 1571, 47, 466, 75, 32, 1, 34, 2306, 106), strict=True)),
}
"""Labelled images of WBCBench 2026 per part and class (arXiv 2604.10797)."""
TEST_IMAGES = 16_477
"""Its test images; their classes are unpublished and drawn here in the proportions of the labelled ones."""
PATIENT_SHARE = {"phase1": 0.18, "train": 0.44, "eval": 0.10, "test": 0.28}
"""Share of the patients in each part; no patient is in two."""
HOLDERS = {"PC": 0.05, "PLY": 0.03, "PMY": 0.25, "LY": 0.95, "SNE": 0.95, "MO": 0.8}
"""Share of a part's patients that have cells of a class; 0.5 for the others."""
MIX: dict[str, tuple[float, ...]] = {
    "train": (0.46, 0.16, 0.14, 0.12, 0.12),
    "eval": (0.40, 0.12, 0.20, 0.16, 0.12),
    "test": (0.36, 0.18, 0.18, 0.12, 0.16),
}
"""Chance of no degradation, then of each of DEGRADATIONS, in the parts of phase 2; phase 1 is pristine."""


def class_counts(images: int, least: int) -> dict[str, dict[str, int]]:
    """Return images per part and class, scaled to about `images` in all, rare classes raised to their least."""
    labelled = {code: sum(part[code] for part in COUNTS.values()) for code in CELL_TYPES}
    total = sum(labelled.values())
    parts = {**COUNTS, "test": {code: round(TEST_IMAGES * n / total) for code, n in labelled.items()}}
    scale = images / (total + TEST_IMAGES)
    floor = {"phase1": max(1, least // 3), "train": least, "eval": max(1, least // 3), "test": least}
    return {part: {c: max(floor[part], round(n * scale)) for c, n in counts.items()} for part, counts in parts.items()}


def patients_per_part(patients: int) -> dict[str, int]:
    """Return the number of patients of each part, at least three."""
    return {part: max(3, round(patients * share)) for part, share in PATIENT_SHARE.items()}


def holders_of(code: str, patients: int, rng: np.random.Generator) -> np.ndarray:
    """Return which of a part's patients have cells of a class: few for the rarest, at least two."""
    count = min(patients, max(2, round(patients * HOLDERS.get(code, 0.5))))
    return rng.choice(patients, count, replace=False)


def draw_part(part: str, counts: dict[str, int], patients: int, first: int, seed: int) -> pd.DataFrame:
    """Return label and patient (from `first`) of each image of a part, in the order of the challenge's lists.

    The order is patient by patient, inside a patient by class, with a few rows out of order as in the real lists.
    """
    rng = stream(seed, "patients", part)
    rows: list[tuple[int, str]] = []
    for code, number in counts.items():
        holders = holders_of(code, patients, rng)
        # A steep share: of few holders, one or two have most of the cells.
        shares = rng.dirichlet(np.full(len(holders), 0.8))
        rows += [(first + int(patient), code) for patient in rng.choice(holders, number, p=shares)]
    frame = pd.DataFrame(rows, columns=["patient", "label"]).sort_values(["patient", "label"], kind="stable")
    frame = frame.reset_index(drop=True)
    places = np.arange(len(frame), dtype=float)
    out_of_order = rng.random(len(frame)) < 0.02
    places[out_of_order] += rng.uniform(-3, 3, int(out_of_order.sum()))
    same_patient = frame["patient"].to_numpy()
    return frame.iloc[np.lexsort((places, same_patient))].reset_index(drop=True)


def degradations_of(part: str, number: int, seed: int) -> pd.DataFrame:
    """Return kind (`none` or one of DEGRADATIONS) and severity (0, or 1..4) of each image of a part."""
    rng = stream(seed, "degradations", part)
    kinds = np.array(["none", *DEGRADATIONS], dtype=object)
    chosen = kinds[rng.choice(len(kinds), number, p=MIX[part])] if part in MIX else np.full(number, "none", object)
    severity = np.where(chosen == "none", 0, rng.integers(1, 5, number))
    return pd.DataFrame({"kind": chosen, "severity": severity})


def plan_dataset(images: int, patients: int, least: int, seed: int) -> pd.DataFrame:
    """Return the whole data set: ID, part, label, patient, kind, severity; IDs ascend along the lists."""
    parts = []
    first = 0
    for part, counts in class_counts(images, least).items():
        number = patients_per_part(patients)[part]
        drawn = draw_part(part, counts, number, first, seed)
        first += number
        parts.append(pd.concat([drawn.assign(part=part), degradations_of(part, len(drawn), seed)], axis=1))
    frame = pd.concat(parts, ignore_index=True)
    steps = stream(seed, "names").integers(1, 900, len(frame))
    frame.insert(0, "ID", [f"{number:08d}.jpg" for number in 1_000_000 + np.cumsum(steps)])
    return frame


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


def draw_rows(rows: list[dict[str, Any]], folder: Path, seed: int) -> int:
    """Draw and write some rows of the plan below `folder`; return their number."""
    cv2.setNumThreads(1)
    jpeg, png = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY], [cv2.IMWRITE_PNG_COMPRESSION, 1]
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


def draw_all(plan: pd.DataFrame, folder: Path, seed: int, threads: int) -> None:
    """Draw every row of the plan below `folder`, in `threads` processes; the result does not depend on how many."""
    for name in (*FOLDERS.values(), "truth/masks", "truth/clean"):
        (folder / name).mkdir(parents=True)
    rows: list[dict[str, Any]] = plan.to_dict("records")  # type: ignore[assignment]
    chunks = [rows[start : start + 32] for start in range(0, len(rows), 32)]
    if threads == 1:
        for chunk in track(chunks, "draw_smears", "batches of 32"):
            draw_rows(chunk, folder, seed)
        return
    with ProcessPoolExecutor(threads, multiprocessing.get_context("spawn")) as pool:
        done = [pool.submit(draw_rows, chunk, folder, seed) for chunk in chunks]
        for future in track(done, "draw_smears", "batches of 32"):
            future.result()


def draw_smears(*, smears: Path, seed: int, threads: int = 1, settings: DrawSmears) -> None:
    """Draw the data set into the folder `smears`, which is replaced whole."""
    plan = plan_dataset(settings.images, settings.patients, settings.least_per_class, seed)
    with whole_folder(smears) as folder:
        draw_all(plan, folder, seed, threads)
        write_lists(plan, folder)


if __name__ == "__main__":
    run(draw_smears)
