"""Colour of a cell inside its mask: grey levels, red over blue, and the nucleus where the mask does not tell it."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from buffycoat.images import Pixels

Mask = npt.NDArray[np.bool_]


def two_means_midpoint(levels: npt.NDArray[np.uint8]) -> float | None:
    """Return the midpoint of the two means of the best 2-means split of grey levels; None where all are equal.

    In one dimension the best split is a threshold, so all 255 are tried on the histogram: exact, and the same however
    the pixels are ordered. Parameters: levels (n,) uint8.
    """
    counts = np.bincount(levels, minlength=256).astype(np.float64)
    if np.count_nonzero(counts) < 2:
        return None
    sums = counts * np.arange(256)
    below, sum_below = np.cumsum(counts)[:-1], np.cumsum(sums)[:-1]
    above, sum_above = counts.sum() - below, sums.sum() - sum_below
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sum_below / below, sum_above / above
        between = below * above * (means[0] - means[1]) ** 2
    best = int(np.nanargmax(between))
    return float((means[0][best] + means[1][best]) / 2)


def dark_nucleus(grey: Pixels, cell: Mask) -> Mask:
    """Return the cell's pixels darker than the midpoint of its 2-means split, (H, W) bool; none where it is flat."""
    midpoint = two_means_midpoint(grey[cell])
    return np.zeros_like(cell) if midpoint is None else cell & (grey < midpoint)


def level_and_sd(grey: Pixels, part: Mask) -> tuple[float, float]:
    """Return mean and standard deviation of the grey level in `part`, 0..255; it needs at least one pixel."""
    mean, sd = cv2.meanStdDev(grey, mask=part.astype(np.uint8))
    return float(np.asarray(mean).item()), float(np.asarray(sd).item())


def red_blue_ratio(crop: Pixels, part: Mask) -> float:
    """Return mean red over mean blue of an RGB crop in `part`, >= 0; a basophilic (blue) cytoplasm lowers it."""
    red, _, blue, _ = cv2.mean(crop, part.astype(np.uint8))
    return float(red / (blue + 1e-6))
