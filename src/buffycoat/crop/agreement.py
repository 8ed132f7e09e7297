"""How well masks agree with those that experts drew."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from buffycoat.crop.mask_sets import MaskedImage
from buffycoat.images import BACKGROUND, NUCLEUS, Pixels

Bools = npt.NDArray[np.bool_]


class Agreement(NamedTuple):
    """Of one cell: intersection over union of cell and nucleus, 0..1; the nucleus' is NaN where none was drawn."""

    cell_iou: float
    nucleus_iou: float


class Summary(NamedTuple):
    """Of many cells: medians, 10th percentile, and the share of cells with no overlap at all."""

    cells: int
    cell_iou_median: float
    cell_iou_p10: float
    nucleus_iou_median: float | None
    missed: float


def intersection_over_union(a: Bools, b: Bools) -> float:
    """Return |a and b| / |a or b|, 0..1; two empty regions agree (1)."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def agreement_of(mask: Pixels, image: MaskedImage, label: int) -> Agreement:
    """Return how well a mask (H, W) agrees with the expert's cell `label`."""
    truth = image.cells == label
    nucleus = image.nuclei & truth
    nucleus_iou = intersection_over_union(mask == NUCLEUS, nucleus) if nucleus.any() else float("nan")
    return Agreement(intersection_over_union(mask != BACKGROUND, truth), nucleus_iou)


def nearest_cell(mask: Pixels, image: MaskedImage) -> Agreement:
    """Return the agreement with the expert's cell that the mask shares most with; zeros where it meets none."""
    shared = np.bincount(image.cells[mask != BACKGROUND], minlength=2)
    shared[0] = 0
    if not shared.any():
        return Agreement(0.0, 0.0 if image.nucleus_marked else float("nan"))
    return agreement_of(mask, image, int(shared.argmax()))


def each_cell(masks: list[Pixels], image: MaskedImage) -> list[Agreement]:
    """Return, for each of the expert's cells, the agreement of the mask that fits it best."""
    found = []
    for label in range(1, int(image.cells.max()) + 1):
        fits = [agreement_of(mask, image, label) for mask in masks]
        none = Agreement(0.0, 0.0 if (image.nuclei & (image.cells == label)).any() else float("nan"))
        found.append(max(fits, key=lambda fit: fit.cell_iou, default=none))
    return found


def summarise(found: list[Agreement]) -> Summary:
    """Return the summary of at least one cell; a cell whose best mask does not overlap it counts as missed."""
    cell = np.array([one.cell_iou for one in found])
    nucleus = np.array([one.nucleus_iou for one in found])
    nucleus = nucleus[~np.isnan(nucleus)]
    return Summary(
        cells=len(found),
        cell_iou_median=float(np.median(cell)),
        cell_iou_p10=float(np.percentile(cell, 10)),
        nucleus_iou_median=float(np.median(nucleus)) if nucleus.size else None,
        missed=float((cell == 0).mean()),
    )
