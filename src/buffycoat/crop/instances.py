"""From the segmenter's maps to single cells: cores are seeds, cells are their basins, and each needs a nucleus."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]

CORE_DEPTH = 0.4
"""The core of a cell is where the distance from its border exceeds this share of the greatest such distance."""
LEAST_NUCLEUS = 0.04
"""A region with less nucleus than this share of its area is no white cell."""


def core_of(labels: Labels) -> npt.NDArray[np.bool_]:
    """Return where cells are deep, (H, W) bool; `labels` (H, W) numbers the cells, 0 is outside."""
    core = np.zeros(labels.shape, bool)
    for label in np.unique(labels[labels > 0]):
        # A border of the frame is no border of the cell: distances are taken as if the cell went on.
        depth = cv2.distanceTransform((labels == label).astype(np.uint8), cv2.DIST_L2, 3)
        core |= depth > CORE_DEPTH * depth.max()
    return core


def separate_cells(maps: Floats, least_area: float) -> Labels:
    """Return labels (H, W) int32 of the white cells in maps (3, H, W), 0 outside.

    Seeds are connected cores; a cell region without a core is a cell of its own. Regions under `least_area` pixels,
    or without a nucleus, are dropped.
    """
    from skimage.segmentation import watershed

    cell, nucleus, core = maps
    inside = cell > 0.5
    if not inside.any():
        return np.zeros(cell.shape, np.int32)
    seeds = cv2.connectedComponents(((core > 0.5) & inside).astype(np.uint8), connectivity=8)[1]
    regions = cv2.connectedComponents(inside.astype(np.uint8), connectivity=4)[1]
    coreless = inside & ~np.isin(regions, np.unique(regions[(seeds > 0) & inside]))
    seeds = np.where(coreless, regions + seeds.max(), seeds)
    labels = np.asarray(watershed(-(core + cell), seeds, mask=inside), np.int32)
    areas = np.bincount(labels.ravel())
    nuclear = np.bincount(labels.ravel(), weights=(nucleus > 0.5).ravel(), minlength=len(areas))
    kept = (areas >= least_area) & (nuclear >= LEAST_NUCLEUS * areas)
    kept[0] = False
    return np.where(kept[labels], labels, 0).astype(np.int32)


def fill_holes(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the largest connected part of a region (H, W), its holes filled; an empty region stays empty."""
    contours = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    filled = np.zeros(region.shape, np.uint8)
    if contours:
        cv2.drawContours(filled, [max(contours, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return filled.astype(bool)
