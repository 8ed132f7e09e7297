"""Lobes of a nucleus: thick parts that narrower ones join, or that lie apart."""

from __future__ import annotations

import cv2
import numpy as np

from buffycoat.refine.shape import Mask, bounding_box

LEVELS = np.arange(0.05, 0.71, 0.05)
"""Depths, in radii of the largest circle inside the nucleus, at which its parts are counted."""
PROMINENCE = 0.3
"""A lobe is at least this much deeper than where it joins another, in the same unit."""
SMALLEST = 0.4
"""A lobe's own inscribed circle has at least this share of the largest one's radius: less is a fragment."""


def lobe_count(nucleus: Mask) -> int:
    """Return the number of lobes of a nucleus, >= 1; a band and a bean have one.

    The distance of each pixel from the border is cut at rising depths; each lobe is a peak of it that stands alone at a
    depth well below its own height. Needs at least one pixel.
    """
    tight = nucleus[bounding_box(nucleus)].astype(np.uint8)
    padded = cv2.copyMakeBorder(tight, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)
    deepest = float(depth.max())
    rows, cols = np.unravel_index(np.argsort(depth, axis=None), depth.shape)
    depths = depth[rows, cols]
    most = 1
    for level in LEVELS:
        parts, labels = cv2.connectedComponents((depth > level * deepest).astype(np.uint8), connectivity=4)
        if parts <= 2:
            continue
        # Assigned in rising order, so that each part keeps its deepest pixel.
        peaks = np.zeros(parts)
        inside = labels[rows, cols]
        peaks[inside] = depths
        high = (peaks[1:] >= (level + PROMINENCE) * deepest) & (peaks[1:] >= SMALLEST * deepest)
        most = max(most, int(high.sum()))
    return most
