"""Who has which cells: counts per part and class, patients, file names, degradations."""

from __future__ import annotations

import numpy as np
import pandas as pd

from buffycoat.data.cell_types import CELL_TYPES
from buffycoat.data.degradations import DEGRADATIONS
from buffycoat.data.random import stream

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
