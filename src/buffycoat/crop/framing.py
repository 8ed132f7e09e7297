"""The square window around a cell: cut out, padded where it leaves the image, resized."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from buffycoat.images import BACKGROUND, CYTOPLASM, NUCLEUS, Pixels

PADDING = 255
"""Grey level outside the image: clear glass."""


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
