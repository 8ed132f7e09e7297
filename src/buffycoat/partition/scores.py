"""Blur and light of a crop. The noise score is in buffycoat.quality, because restoration needs it too."""

from __future__ import annotations

import cv2
import numpy as np

from buffycoat.images import BACKGROUND, Pixels
from buffycoat.quality import grey_of


def blur_score(crop: Pixels, mask: Pixels) -> float:
    """Return how blurred the cell is, 0 (sharp) .. 1 (blurred), unitless.

    It is the share of grey-level variation between neighbours that survives a 5x5 mean filter: sharp images lose most
    of it, blurred ones little. After Crete et al. 2007, doi 10.1117/12.702790, on a median-filtered image, so that
    noise does not pass for sharpness. A flat image counts as blurred (1).
    """
    grey = cv2.medianBlur(grey_of(crop), 3).astype(np.float32)
    smooth = cv2.blur(grey, (5, 5))
    # A mask of one pixel's margin would cut off the outline, where most of the variation is.
    cell = cv2.dilate((mask != BACKGROUND).astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    shares = []
    for axis in (0, 1):
        keep = np.delete(cell, 0, axis) if cell.any() else np.ones(np.delete(cell, 0, axis).shape, bool)
        total = float(np.abs(np.diff(grey, axis=axis))[keep].sum())
        left = float(np.abs(np.diff(smooth, axis=axis))[keep].sum())
        shares.append(min(1.0, left / total) if total > 0 else 1.0)
    return max(shares)


def illumination_level(crop: Pixels, mask: Pixels) -> float:
    """Return the mean grey level of the crop outside the cell, 0..255; of the whole crop where the cell fills it."""
    outside = (mask == BACKGROUND).astype(np.uint8)
    return float(cv2.mean(grey_of(crop), outside if outside.any() else None)[0])
