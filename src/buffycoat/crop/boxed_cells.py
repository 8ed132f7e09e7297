"""The cell that fills a box on a field: the segmenter looks at a window around the box; where it fails, an ellipse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from buffycoat.crop.framing import Framed, frame_cell
from buffycoat.data.images import BACKGROUND, CYTOPLASM, Pixels
from buffycoat.data.locations import Box

WINDOW = 2.0
"""Side of the window that is searched, as a multiple of the box's longer side; ours: a cell fills half of it, as in the
close-ups that the segmenter learned from."""
LEAST_OVERLAP = 0.3
"""Least intersection over union of a cell and its box; a disc that fills its box has 0.79; ours."""
MOST_OUTSIDE = 0.3
"""Largest share of a cell's area outside its box: more of it is a neighbour or the ground; ours."""
NO_CELL = "no white cell fills the box: the ellipse in the box is taken, without a nucleus"
"""The reason of a crop whose box alone tells where the cell is."""


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
    """Return the window around a box, of WINDOW times its longer side, cut at the field's border."""
    left, top, right, bottom = box
    reach = max(right - left, bottom - top) * WINDOW / 2
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


def by_stain(view: View) -> Answer:
    """Return the primary cell of a window by its stain."""
    from buffycoat.crop.stain import segment_by_stain

    mask, cells = segment_by_stain(view.window)
    return Answer([mask], cells)
