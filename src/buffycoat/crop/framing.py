"""A cell's region and its window: cells told apart in the network's maps; windows cut out, padded, resized."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from buffycoat.data.images import BACKGROUND, CYTOPLASM, NUCLEUS, Pixels

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]

CORE_DEPTH = 0.4
"""The core of a cell is where the distance from its border exceeds this share of the greatest such distance."""
LEAST_NUCLEUS = 0.04
"""A region with less nucleus than this share of its area is no white cell."""
PADDING = 255
"""Grey level outside the image: clear glass."""


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


@dataclass(frozen=True)
class Framed:
    """A cell cut out of its image; places and areas in source pixels."""

    crop: Pixels
    mask: Pixels
    row: float
    col: float
    found: bool
    masks: int
    touches_border: bool
    area_px: int
    nucleus_area_px: int
    reason: str


def cut_window(image: Pixels, row: float, col: float, side: int, fill: int) -> Pixels:
    """Return the (side, side, ...) window centred on (row, col); what lies outside the image is `fill`."""
    top, left = round(row - side / 2), round(col - side / 2)
    height, width = image.shape[:2]
    window = np.full((side, side, *image.shape[2:]), fill, np.uint8)
    above, before = max(0, top), max(0, left)
    below, after = min(height, top + side), min(width, left + side)
    if below > above and after > before:
        window[above - top : below - top, before - left : after - left] = image[above:below, before:after]
    return window


def resize_crop(window: Pixels, side: int) -> Pixels:
    """Return the window resized to (side, side): by area where it shrinks, linearly where it grows."""
    if window.shape[0] == side:
        return window
    method = cv2.INTER_AREA if side < window.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(window, (side, side), interpolation=method), np.uint8)


def resize_mask(window: Pixels, side: int) -> Pixels:
    """Return the mask resized to (side, side) by nearest neighbour: no value is invented."""
    if window.shape[0] == side:
        return window
    return np.asarray(cv2.resize(window, (side, side), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


def touches_border(mask: Pixels) -> bool:
    """Return whether a cell pixel lies on the image's border."""
    cell = mask != BACKGROUND
    return bool(cell[0].any() or cell[-1].any() or cell[:, 0].any() or cell[:, -1].any())


def frame_cell(image: Pixels, mask: Pixels, masks: int, window_px: int, size_px: int) -> Framed:
    """Return the crop around the masked cell's centroid; without a cell, the image's centre with a full mask.

    Parameters: image (H, W, 3) uint8; mask (H, W) uint8 of BACKGROUND, CYTOPLASM, NUCLEUS; `masks`, the white cells
    that were found in the image.
    """
    rows, cols = np.nonzero(mask != BACKGROUND)
    found = rows.size > 0
    row, col = (float(rows.mean()), float(cols.mean())) if found else (image.shape[0] / 2, image.shape[1] / 2)
    window_mask = cut_window(mask, row, col, window_px, BACKGROUND)
    if not found:
        window_mask = np.full_like(window_mask, CYTOPLASM)
    return Framed(
        crop=resize_crop(cut_window(image, row, col, window_px, PADDING), size_px),
        mask=resize_mask(window_mask, size_px),
        row=row,
        col=col,
        found=found,
        masks=masks,
        touches_border=found and touches_border(mask),
        area_px=int(rows.size),
        nucleus_area_px=int((mask == NUCLEUS).sum()),
        reason="" if found else "no white cell found: the image's centre is used, unmasked",
    )
