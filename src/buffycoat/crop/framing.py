"""A cell's region and its window: cells told apart in the network's maps; the cell in a box; windows cut out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from buffycoat.data.images import BACKGROUND, CYTOPLASM, NUCLEUS, Pixels
from buffycoat.data.locations import Box

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]

CORE_DEPTH = 0.4
"""The core of a cell is where the distance from its border exceeds this share of the greatest such distance."""
LEAST_NUCLEUS = 0.04
"""A region with less nucleus than this share of its area is no white cell."""
PADDING = 255
"""Grey level outside the image: clear glass."""
SEARCHED = 2.0
"""Side of the window that is searched, as a multiple of the box's longer side; ours: a cell fills half of it, as in the
close-ups that the segmenter learned from."""
LEAST_OVERLAP = 0.3
"""Least intersection over union of a cell and its box; a disc that fills its box has 0.79; ours."""
MOST_OUTSIDE = 0.3
"""Largest share of a cell's area outside its box: more of it is a neighbour or the ground; ours."""
NO_CELL = "no white cell fills the box: the ellipse in the box is taken, without a nucleus"
"""The reason of a crop whose box alone tells where the cell is."""


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


class View(NamedTuple):
    """A window (H, W, 3) uint8 of a field around a box; the box in the window's pixels; the window's corner."""

    window: Pixels
    box: Box
    top: int
    left: int


class Answer(NamedTuple):
    """Masks (H, W) uint8 of the white cells in a window, and how many cells were seen there."""

    masks: list[Pixels]
    cells: int


Segment = Callable[[View], Answer]
"""A view to the cells that may be the one in the box, best first."""


def view_around(field: Pixels, box: Box) -> View:
    """Return the window around a box, of SEARCHED times its longer side, cut at the field's border."""
    left, top, right, bottom = box
    reach = max(right - left, bottom - top) * SEARCHED / 2
    row, col = (top + bottom) / 2, (left + right) / 2
    y0, x0 = max(0, int(np.floor(row - reach))), max(0, int(np.floor(col - reach)))
    y1, x1 = int(np.ceil(row + reach)), int(np.ceil(col + reach))
    window = np.ascontiguousarray(field[y0:y1, x0:x1])
    return View(window, (left - x0, top - y0, right - x0, bottom - y0), y0, x0)


def region_of_box(box: Box, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return the pixels of a box, (height, width) bool."""
    region = np.zeros((height, width), bool)
    left, top, right, bottom = (round(side) for side in box)
    region[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = True
    return region


def overlap_with(cell: npt.NDArray[np.bool_], box: npt.NDArray[np.bool_]) -> float:
    """Return the intersection over union of a cell and a box, both (H, W) bool; 0 where both are empty."""
    return float((cell & box).sum()) / max(1.0, float((cell | box).sum()))


def share_outside(mask: Pixels, box: npt.NDArray[np.bool_]) -> float:
    """Return the share of a cell's area (H, W) that lies outside a box (H, W) bool; 0 without a cell."""
    cell = mask != BACKGROUND
    return float((cell & ~box).sum()) / max(1.0, float(cell.sum()))


def ellipse_in(box: Box, height: int, width: int) -> Pixels:
    """Return the ellipse that fills a box as a mask (height, width) uint8 without a nucleus."""
    mask = np.full((height, width), BACKGROUND, np.uint8)
    left, top, right, bottom = box
    centre = round((left + right) / 2), round((top + bottom) / 2)
    axes = max(1, round((right - left) / 2)), max(1, round((bottom - top) / 2))
    cv2.ellipse(mask, centre, axes, 0, 0, 360, CYTOPLASM, cv2.FILLED)
    return mask


def frame_box(field: Pixels, box: Box, segment: Segment, window_px: int, size_px: int) -> Framed:
    """Return the crop of the cell that fills a box of a field (H, W, 3) uint8; pixels.

    It is the cell that overlaps most with the box. Where none does by LEAST_OVERLAP, or too much of it lies outside,
    it is the ellipse in the box, and `found` is False. `masks` counts the white cells in the window that was searched.
    """
    view = view_around(field, box)
    inside = region_of_box(view.box, *view.window.shape[:2])
    masks, cells = segment(view)
    overlaps = [overlap_with(mask != BACKGROUND, inside) for mask in masks]
    best = int(np.argmax(overlaps)) if overlaps else 0
    found = bool(overlaps) and overlaps[best] >= LEAST_OVERLAP and share_outside(masks[best], inside) <= MOST_OUTSIDE
    if not found:
        framed = frame_cell(field, ellipse_in(box, *field.shape[:2]), cells, window_px, size_px)
        return replace(framed, found=False, reason=NO_CELL)
    whole = np.full(field.shape[:2], BACKGROUND, np.uint8)
    height, width = masks[best].shape
    whole[view.top : view.top + height, view.left : view.left + width] = masks[best]
    return frame_cell(field, whole, cells, window_px, size_px)
