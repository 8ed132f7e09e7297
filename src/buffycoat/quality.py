"""Image quality of a crop; shared by the partition and by the guard of restoration."""

from __future__ import annotations

import cv2
import numpy as np

from buffycoat.images import BACKGROUND, Pixels


def grey_of(crop: Pixels) -> Pixels:
    """Return the grey level of an RGB crop, (H, W) uint8, by ITU-R BT.601 weights."""
    return np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.uint8)


def noise_score(crop: Pixels, mask: Pixels) -> float:
    """Return the mean of |g - median3x3(g)| over the cell, in grey levels, 0 (smooth) .. 255.

    Parameters: crop (H, W, 3) uint8 RGB; mask (H, W) uint8, BACKGROUND outside the cell. A mask without a cell counts
    every pixel. Source: arXiv 2603.16249, noise partition by median-blur residual; the cell comes from the mask and
    not from a colour test.
    """
    grey = grey_of(crop)
    residual = cv2.absdiff(grey, cv2.medianBlur(grey, 3))
    cell = (mask != BACKGROUND).astype(np.uint8)
    return float(cv2.mean(residual, cell if cell.any() else None)[0])
