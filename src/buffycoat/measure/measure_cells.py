"""Step `measure_cells`: shape, size and colour of each cell, from the carried masks."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from buffycoat.core.progress import track
from buffycoat.core.steps import run
from buffycoat.data.gather_portions import ALL, rows_of_portion
from buffycoat.data.images import BACKGROUND, NUCLEUS, CellImages, Pixels, grey_of
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.measure import MORPHOLOGY
from buffycoat.data.tables.restore import CELLS
from buffycoat.data.tables.schema import require_same_keys
from buffycoat.measure.morphology import (
    Mask,
    Points,
    bounding_box,
    channel_densities,
    circularity,
    dark_nucleus,
    density_of,
    eccentricity,
    enclosed_area,
    eosinophilia,
    fine_contrast,
    glass_levels,
    irregularity,
    level_and_sd,
    lobe_count,
    offset_radii,
    outline,
    red_blue_ratio,
    solidity,
    spikiness,
    within,
)
from buffycoat.measure.settings import MeasureCells

log = logging.getLogger("buffycoat")
MIN_AREA_PX = 50.0
"""Cells whose outline encloses less are not measured, pixels of the source image (arXiv 2603.16249)."""
Measured = dict[str, Any]
RIM, CHROMATIN_SCALE, GRANULE_SCALE = 0.06, 0.1, 0.08
"""Width of the rim that textures leave out, and the size below which dye counts as texture, in radii of the part."""


@dataclass(frozen=True)
class CellMeter:
    """What measuring needs."""

    settings: MeasureCells
    """Where the nucleus is taken from."""
    threads: int
    """How many cells are measured side by side."""


def find_nucleus(grey: Pixels, mask: Pixels, method: str) -> tuple[npt.NDArray[np.bool_], str]:
    """Return the nucleus, (H, W) bool, and where it comes from: 'carried' or 'grey'."""
    carried = mask == NUCLEUS
    if method == "carried" and carried.any():
        return carried, "carried"
    return dark_nucleus(grey, mask != BACKGROUND), "grey"


def measure_cell(crop: Pixels, mask: Pixels, source_px: float, settings: MeasureCells) -> Measured:
    """Return one cell's measurements, named as the columns of the table of morphology.

    Parameters: crop (H, W, 3) uint8 RGB; mask (H, W) uint8 of BACKGROUND, CYTOPLASM, NUCLEUS; `source_px`, the side of
    a crop pixel in pixels of the source image. A cell that cannot be measured gets `measured` False and a reason.
    """
    if not (mask != BACKGROUND).any():
        return unmeasured("the mask is empty")
    # Only the glass is looked for in the whole crop; all else is quicker in the part that holds the cell.
    glass, box = glass_levels(crop, mask != BACKGROUND), bounding_box(mask != BACKGROUND)
    crop, mask = np.ascontiguousarray(crop[box]), np.ascontiguousarray(mask[box])
    cell = mask != BACKGROUND
    contour = outline(cell)
    enclosed = enclosed_area(contour) * source_px**2
    if enclosed < MIN_AREA_PX:
        return unmeasured(f"the outline encloses {enclosed:.0f} pixels, fewer than {MIN_AREA_PX:g}")
    grey = grey_of(crop)
    nucleus, nucleus_from = find_nucleus(grey, mask, settings.nucleus)
    if not nucleus.any():
        return unmeasured("no nucleus: none in the mask, and all grey levels of the cell are equal")
    cytoplasm = cell & ~nucleus
    level, level_sd = level_and_sd(grey, cell)
    return {
        "measured": True,
        "spikiness": spikiness(contour),
        "area_px": float(cell.sum()) * source_px**2,
        "nucleus_ratio": float(nucleus.sum() / cell.sum()),
        "nucleus_offset_radii": offset_radii(cell, nucleus),
        "cell_level": level,
        "cell_level_sd": level_sd,
        "red_blue_ratio": red_blue_ratio(crop, cell),
        "cytoplasm_level": level_and_sd(grey, cytoplasm)[0] if cytoplasm.any() else None,
        "solidity": solidity(nucleus),
        "eccentricity": eccentricity(cell),
        "nucleus_from": nucleus_from,
        "reason": "",
        **outline_measures(cell, contour),
        **nucleus_measures(nucleus),
        **dye_measures(crop, grey, cell, nucleus, glass),
    }


def outline_measures(cell: Mask, contour: Points) -> Measured:
    """Return what the field asks of a cell's outline."""
    return {
        "cell_circularity": circularity(cell),
        "cell_solidity": solidity(cell),
        "irregularity": irregularity(contour),
    }


def nucleus_measures(nucleus: Mask) -> Measured:
    """Return the shape of the nucleus beside its solidity."""
    return {"nucleus_circularity": circularity(nucleus), "lobes": lobe_count(nucleus)}


def dye_measures(crop: Pixels, grey: Pixels, cell: Mask, nucleus: Mask, glass: npt.NDArray[np.float64]) -> Measured:
    """Return how much dye the parts hold and how finely it is divided; what needs cytoplasm is None without any."""
    cytoplasm = cell & ~nucleus
    cell_radius, nucleus_radius = (float(np.sqrt(part.sum() / np.pi)) for part in (cell, nucleus))
    density = density_of(grey)
    # A rim is left out: there the mask, the optics and the other part of the cell are seen, not its texture.
    chromatin = within(nucleus, RIM * nucleus_radius)
    granules = within(cytoplasm, RIM * cell_radius)
    colours = channel_densities(crop, cytoplasm, glass) if cytoplasm.any() else (None,) * 3
    return {
        "nucleus_cytoplasm_ratio": float(nucleus.sum() / cytoplasm.sum()) if cytoplasm.any() else None,
        "chromatin_contrast": fine_contrast(density, chromatin, CHROMATIN_SCALE * nucleus_radius),
        "granularity": fine_contrast(density, granules, GRANULE_SCALE * cell_radius),
        **dict(zip(("cytoplasm_red", "cytoplasm_green", "cytoplasm_blue"), colours, strict=True)),
        "eosinophilia": eosinophilia(colours[0], colours[1]),
    }


def unmeasured(reason: str) -> Measured:
    """Return the row of a cell that cannot be measured: gaps, and why."""
    gaps = {column.name: None for column in MORPHOLOGY.columns if column.gaps}
    return {"measured": False, **gaps, "reason": reason}


def apply(rows: pd.DataFrame, meter: CellMeter, crops: pd.DataFrame, cells: CellImages) -> pd.DataFrame:
    """Return the morphology (table MORPHOLOGY) of the rows of cells, in their order.

    Parameters: crops, with image_id, found and window_px (source pixels) of at least these images; cells, the pixels
    of `rows`.
    """
    windows = crops.set_index("image_id").loc[rows["image_id"]]
    found, window_px = windows["found"].to_numpy(bool), windows["window_px"].to_numpy(float)
    cv2.setNumThreads(1)

    def measure(position: int) -> Measured:
        if not found[position]:
            return unmeasured("no white cell was found in the image")
        crop, mask = cells.crop(position), cells.mask(position)
        return measure_cell(crop, mask, window_px[position] / len(mask), meter.settings)

    with ThreadPoolExecutor(max(1, meter.threads)) as pool:
        measured = list(track(pool.map(measure, range(len(cells))), "measure_cells", "cells", len(cells)))
    table = pd.DataFrame(measured, columns=[column.name for column in MORPHOLOGY.columns if column.name != "image_id"])
    log.info("%d of %d cells measured", int(table["measured"].sum()), len(table))
    return table.assign(image_id=rows["image_id"].to_numpy())


def measure_cells(
    *, crops: Path, cells: Path, morphology: Path, portion: str = ALL, threads: int = 1, settings: MeasureCells,
) -> None:  # fmt: skip
    """Measure every cell that was found; write the table of morphology.

    With `portion`, of these cells alone.
    """
    frame, windows = CELLS.read(cells), CROPS.read(crops)
    require_same_keys(frame["image_id"], windows["image_id"], str(cells))
    rows = rows_of_portion(frame, portion)
    MORPHOLOGY.write(apply(rows, CellMeter(settings, threads), windows, CellImages(rows, cells)), morphology)


if __name__ == "__main__":
    run(measure_cells)
