"""How fast cells are measured, and how well the measurements agree with what experts wrote down.

    make benchmark-measure

Writes benchmarks/measure.json. Speed: `measure_cell` beside scikit-image's regionprops_table and grey-level
co-occurrence matrix on the same crops, in one process and thread. Agreement: area under the ROC curve against the
attributes of Acevedo et al. 2020 (Data in Brief 30, 105474), where the images are at hand.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import pandas as pd
import typer
from skimage.feature import graycomatrix, graycoprops
from skimage.measure import regionprops_table
from sklearn.metrics import roc_auc_score

from benchmarks.classify_loops import cut_out, source_images
from benchmarks.machine import machine
from benchmarks.segmenter_data import DATA
from buffycoat.core.files import write_json
from buffycoat.core.progress import start_logging
from buffycoat.data.images import BACKGROUND, NUCLEUS, CellImages, Pixels, grey_of
from buffycoat.data.random import stream
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.measure import MORPHOLOGY
from buffycoat.measure.measure_cells import measure_cell, measure_cells
from buffycoat.measure.settings import MeasureCells

HERE = Path(__file__).parent
LEAST_CELLS_PER_S, LEAST_AUC = 250.0, 0.8
PROPERTIES = ("area", "solidity", "eccentricity", "perimeter_crofton", "centroid", "intensity_mean", "intensity_std")
"""What the peer measures of cell and nucleus: about what we measure, without lobes, spikiness or densities."""
CLAIMS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "nucleus-to-cytoplasm ratio": ("nucleus_cytoplasm_ratio", "nuclear_cytoplasmic_ratio", ("high",)),
    "irregularity of the outline": ("irregularity", "cell_shape", ("irregular",)),
    "solidity of the nucleus (reversed)": (
        "solidity", "nucleus_shape", ("segmented-bilobed", "segmented-multilobed", "unsegmented-band"),
    ),
    "lobes": ("lobes", "nucleus_shape", ("segmented-bilobed", "segmented-multilobed")),
    "area": ("area_px", "cell_size", ("big",)),
    "granularity (texture)": ("granularity", "granularity", ("yes",)),
    "eosinophilia of the cytoplasm": ("eosinophilia", "granularity", ("yes",)),
}  # fmt: skip
"""Measurement, attribute, and the values of the attribute that count as positive."""
REVERSED = {"solidity"}


def peer(crop: Pixels, mask: Pixels) -> dict[str, Any]:
    """Return comparable measurements by scikit-image alone."""
    grey, cell = grey_of(crop), (mask != BACKGROUND).astype(np.uint8)
    found: dict[str, Any] = {}
    for name, part in (("cell", cell), ("nucleus", (mask == NUCLEUS).astype(np.uint8))):
        if part.any():
            table = regionprops_table(part, grey, properties=PROPERTIES)
            found |= {f"{name}_{key}": values[0] for key, values in table.items()}
    pairs = graycomatrix(np.where(cell, grey // 8, 0).astype(np.uint8), [1], [0, np.pi / 2], levels=32)
    return {**found, **{name: graycoprops(pairs, name).mean() for name in ("contrast", "homogeneity")}}


def rate(measure: Callable[[Pixels, Pixels], Any], pairs: list[tuple[Pixels, Pixels]]) -> float:
    """Return cells/s of processor time."""
    started = time.process_time()
    for crop, mask in pairs:
        measure(crop, mask)
    return len(pairs) / (time.process_time() - started)


def speed(folder: Path, size_px: int, number: int, repeats: int) -> dict[str, Any]:
    """Return cells/s of ours and the peer's at a crop size, turn by turn."""
    cut_out(source_images(folder / "fields", number), folder / str(size_px), size_px)
    crops = CROPS.read(folder / str(size_px) / "crops.parquet")
    images, settings = CellImages(crops, folder / str(size_px) / "crops.parquet"), MeasureCells()
    pairs = [(images.crop(k).copy(), images.mask(k).copy()) for k in range(len(images))]
    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(rate(lambda crop, mask: measure_cell(crop, mask, 1.0, settings), pairs))
        theirs.append(rate(peer, pairs))
    best, ratio = float(np.median(ours)), float(np.median(ours) / np.median(theirs))
    return {
        "cells": len(pairs), "ours_cells_per_s": [round(value) for value in ours],
        "scikit_image_cells_per_s": [round(value) for value in theirs], "ratio_of_medians": round(ratio, 2),
        "at_least": LEAST_CELLS_PER_S, "met": best >= LEAST_CELLS_PER_S,
    }  # fmt: skip


def auc_with_interval(positive: np.ndarray, values: np.ndarray, resamples: int = 1000) -> dict[str, Any]:
    """Return the area under the ROC curve and its 95 % percentile interval over resampled cells."""
    rng = stream(1, "benchmark", "attributes")
    drawn = []
    for _ in range(resamples):
        rows = rng.integers(0, len(values), len(values))
        drawn.append(roc_auc_score(positive[rows], values[rows]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    auc = float(roc_auc_score(positive, values))
    return {"auc": round(auc, 3), "low": round(float(low), 3), "high": round(float(high), 3), "cells": len(values)}


def agreement(folder: Path) -> dict[str, Any] | str:
    """Return the AUC of each claim, and the lobes counted per shape of nucleus; or why there is none."""
    listed = DATA / "pbc" / "attributes.csv"
    if not listed.is_file():
        return f"not run: no attributes.csv of Acevedo et al. 2020 in the folder {DATA.name}"
    rows = pd.read_csv(listed)
    source = pd.DataFrame({"image": [str(DATA / "pbc" / name) for name in rows["image"]], "label": None})
    cut_out(source, folder / "attributes", 128)
    table = folder / "attributes" / "morphology.parquet"
    crops = CROPS.read(folder / "attributes" / "crops.parquet")
    cells = folder / "attributes" / "cells.parquet"
    _as_cells(crops, cells)
    measure_cells(
        crops=folder / "attributes" / "crops.parquet", cells=cells, morphology=table, threads=1, settings=MeasureCells()
    )
    measured = MORPHOLOGY.read(table)
    ordered = measured.set_index("image_id").loc[[str(k) for k in range(len(rows))]].reset_index()
    frame = pd.concat([ordered, rows.add_prefix("expert_")], axis=1)
    found = {}
    for name, (column, attribute, positive) in CLAIMS.items():
        known = frame[frame[column].notna()]
        values = known[column].to_numpy(np.float64) * (-1 if column in REVERSED else 1)
        answer = auc_with_interval(known[f"expert_{attribute}"].isin(positive).to_numpy(), values)
        found[name] = {"column": column, "attribute": f"{attribute}: {', '.join(positive)}", **answer}
    lobes = pd.crosstab(frame["expert_nucleus_shape"], frame["lobes"], normalize="index").round(3)
    return {"at_least": LEAST_AUC, "crop_px": 128, "claims": found, "lobes": lobes.to_dict(orient="index")}


def _as_cells(crops: pd.DataFrame, path: Path) -> None:
    from buffycoat.data.tables.restore import CELLS

    cells = crops[["image_id", "shard", "shard_row", "crc32"]].assign(
        restored=False, noise_before=0.0, noise_after=np.nan, nucleus_change=np.nan, cell_change=np.nan, reason="clean"
    )
    CELLS.write(cells, path)


def main(
    number: Annotated[int, typer.Option(help="cells whose measuring is timed")] = 300,
    repeats: Annotated[int, typer.Option(help="turns")] = 3,
    result: Annotated[Path, typer.Option()] = HERE / "measure.json",
) -> None:
    """Measure and write the result file."""
    start_logging()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            "command": "make benchmark-measure",
            "machine": machine(),
            "versions": {
                name: importlib.metadata.version(name) for name in ("numpy", "scikit-image", "opencv-python-headless")
            },
            "speed": {f"{size} px": speed(Path(folder), size, number, repeats) for size in (128, 224)},
            "agreement": agreement(Path(folder)),
        }
    write_json(figures, result)


if __name__ == "__main__":
    typer.run(main)
