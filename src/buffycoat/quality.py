"""Image quality of a crop; shared by the partition and by the guard of restoration."""

from __future__ import annotations

import cv2
import numpy as np

from buffycoat.images import BACKGROUND, Pixels


def grey_of(crop: Pixels) -> Pixels:
    """Return the grey level of an RGB crop, (H, W) uint8, by ITU-R BT.601 weights."""
    return np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.uint8)


def cell_of(mask: Pixels) -> Pixels:
    """Return where the cell is, (H, W) uint8 of 0 and 1."""
    return np.not_equal(mask, BACKGROUND).view(np.uint8)


def mean_residual(grey: Pixels, smooth: Pixels, region: Pixels) -> float:
    """Return the mean of |grey - smooth| over a region, grey levels 0..255; over every pixel where it is empty.

    Parameters: all (H, W) uint8; region 0 outside.
    """
    pixels = cv2.countNonZero(region)
    # The norm sums without a temporary; cv2.mean takes forty times as long under a mask.
    if pixels:
        return float(cv2.norm(grey, smooth, cv2.NORM_L1, region)) / pixels
    return float(cv2.norm(grey, smooth, cv2.NORM_L1)) / grey.size


def noise_score(crop: Pixels, mask: Pixels) -> float:
    """Return the mean of |g - median3x3(g)| over the cell, in grey levels, 0 (smooth) .. 255.

    Parameters: crop (H, W, 3) uint8 RGB; mask (H, W) uint8, BACKGROUND outside the cell. A mask without a cell counts
    every pixel. Source: arXiv 2603.16249, noise partition by median-blur residual; the cell comes from the mask and
    not from a colour test.
    """
    grey = grey_of(crop)
    return mean_residual(grey, np.asarray(cv2.medianBlur(grey, 3), np.uint8), cell_of(mask))
