"""Measures of one cell inside its mask: outline, nucleus, lobes, colour and texture."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from skimage.measure import perimeter_crofton

from buffycoat.data.images import Pixels

Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]
Values = npt.NDArray[np.float32]

LEAST_GLASS = 0.05
"""Share of a crop that must lie outside the cell for its glass to be looked at; below, glass counts as white."""
_DENSITY_OF_LEVEL = (-np.log10((np.arange(256) + 1) / 256)).astype(np.float32)
LEVELS = np.arange(0.05, 0.71, 0.05)
"""Depths, in radii of the largest circle inside the nucleus, at which its parts are counted."""
PROMINENCE = 0.3
"""A lobe is at least this much deeper than where it joins another, in the same unit."""
SMALLEST = 0.4
"""A lobe's own inscribed circle has at least this share of the largest one's radius: less is a fragment."""


def outline(cell: Mask) -> Points:
    """Return the outer contour of the largest part of the cell, (n, 2) float64 as (x, y) of pixel centres; n may be 0.

    Parameters: cell (H, W) bool. Holes are ignored; parts are compared by enclosed area, then by length.
    """
    found, _ = cv2.findContours(cell.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not found:
        return np.zeros((0, 2))
    largest = max(found, key=lambda contour: (cv2.contourArea(contour), len(contour)))
    return np.asarray(largest, np.float64).reshape(-1, 2)


def enclosed_area(contour: Points) -> float:
    """Return the area of the polygon, in squared units of the contour; 0 for fewer than three points."""
    return float(cv2.contourArea(contour.astype(np.float32))) if len(contour) > 2 else 0.0


def contour_centroid(contour: Points) -> Points:
    """Return the centroid (x, y) of the area that the contour encloses; the mean of its points where that is 0."""
    if enclosed_area(contour) == 0:
        return np.asarray(contour.mean(axis=0))
    moments = cv2.moments(contour.astype(np.float32))
    return np.array([moments["m10"], moments["m01"]]) / moments["m00"]


def spikiness(contour: Points) -> float:
    """Return largest over median distance of the contour's points from its centroid, >= 1: 1 is a circle.

    Source: arXiv 2603.16249, Algorithm 1, phase 3: S = max d / (median d + 1e-6). Needs at least one point.
    """
    distances = np.linalg.norm(contour - contour_centroid(contour), axis=1)
    return max(1.0, float(distances.max() / (np.median(distances) + 1e-6)))


def solidity(part: Mask) -> float:
    """Return area over area of the convex hull, 0..1, of all pixels of `part` together, each pixel a unit square.

    Separate lobes share one hull, so a segmented nucleus is less solid than a round one. Needs at least one pixel.
    """
    found, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    centres = np.concatenate([np.asarray(contour).reshape(-1, 2) for contour in found])
    corners = np.concatenate([2 * centres + offset for offset in ((-1, -1), (-1, 1), (1, -1), (1, 1))])
    # Twice the coordinates are whole numbers: the hull is exact, whatever the orientation.
    hull = cv2.convexHull(corners.astype(np.int32))
    return float(part.sum() / (cv2.contourArea(hull) / 4))


def eccentricity(part: Mask) -> float:
    """Return the eccentricity of the ellipse with the same second moments, 0 (circle) .. 1 (line).

    As skimage.measure.regionprops, which is slower. Needs at least one pixel; a single one gives 0.
    """
    moments = cv2.moments(part.astype(np.uint8), binaryImage=True)
    xx, yy, xy = moments["mu20"], moments["mu02"], moments["mu11"]
    spread = np.hypot(xx - yy, 2 * xy)
    long, short = xx + yy + spread, xx + yy - spread
    return float(np.sqrt(max(0.0, 1 - short / long))) if long > 0 else 0.0


def centroid(part: Mask) -> Points:
    """Return the mean (x, y) of the pixels of `part`; it needs at least one."""
    moments = cv2.moments(part.astype(np.uint8), binaryImage=True)
    return np.array([moments["m10"], moments["m01"]]) / moments["m00"]


def offset_radii(cell: Mask, nucleus: Mask) -> float:
    """Return the distance of the two centroids in radii of the cell, sqrt(area / pi); >= 0."""
    distance = float(np.linalg.norm(centroid(cell) - centroid(nucleus)))
    return distance / float(np.sqrt(cell.sum() / np.pi))


def bounding_box(part: Mask) -> tuple[slice, slice]:
    """Return the rows and columns that `part` spans. Needs at least one pixel."""
    rows, cols = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def perimeter(part: Mask) -> float:
    """Return the length of the border of `part` by Crofton's formula in four directions, in pixels.

    As skimage.measure.perimeter_crofton: nearly the same for every orientation, where counting border pixels is not.
    """
    return float(perimeter_crofton(part[bounding_box(part)], directions=4))


def circularity(part: Mask) -> float:
    """Return 4 pi area / perimeter^2, 0..1: 1 is a disc, a star and a line have little. Needs at least one pixel."""
    return min(1.0, 4 * np.pi * float(part.sum()) / perimeter(part) ** 2)


def irregularity(contour: Points) -> float:
    """Return how far the outline leaves its best ellipse: root mean square of the distance, in radii; >= 0.

    The ellipse has the second moments of the area that the contour encloses, so an oval cell is regular. 0 for fewer
    than three points, or none enclosed.
    """
    if enclosed_area(contour) == 0:
        return 0.0
    moments = cv2.moments(contour.astype(np.float32))
    spread = np.array([[moments["mu20"], moments["mu11"]], [moments["mu11"], moments["mu02"]]]) / moments["m00"]
    values, vectors = np.linalg.eigh(spread)
    # A filled ellipse of half-axis a has the second moment a^2 / 4 along it.
    axes = 2 * np.sqrt(np.maximum(values, 1e-12))
    along = (contour - contour_centroid(contour)) @ vectors / axes
    return float(np.sqrt(np.mean((np.linalg.norm(along, axis=1) - 1) ** 2)))


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


def glass_levels(crop: Pixels, cell: Mask) -> npt.NDArray[np.float64]:
    """Return the level of clear glass, (3,) in 0..255: the 90th percentile, per channel, of what is outside the cell.

    Parameters: crop (H, W, 3) uint8 RGB; cell (H, W) bool. White, 255, where the cell leaves almost nothing outside.
    """
    outside = (~cell).astype(np.uint8)
    pixels = int(outside.sum())
    if pixels < LEAST_GLASS * cell.size:
        return np.full(3, 255.0)
    levels = []
    for channel in range(3):
        counts = cv2.calcHist([crop], [channel], outside, [256], [0, 256]).ravel()
        levels.append(float(np.searchsorted(np.cumsum(counts), 0.9 * pixels)))
    return np.array(levels)


def channel_densities(crop: Pixels, part: Mask, glass: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean optical density of red, green and blue in `part` over that of the glass.

    log10(glass + 1) - log10(level + 1), averaged over the pixels; 0 is as clear as glass, and no dye is darker than
    2.41. It needs at least one pixel.
    """
    means = []
    inside = part.astype(np.uint8)
    for channel in range(3):
        counts = cv2.calcHist([crop], [channel], inside, [256], [0, 256]).ravel().astype(np.float64)
        density = float((counts * _DENSITY_OF_LEVEL).sum() / counts.sum())
        means.append(density - float(-np.log10((glass[channel] + 1) / 256)))
    return means[0], means[1], means[2]


def eosinophilia(red: float | None, green: float | None) -> float | None:
    """Return the dye in green over that in red: pink (eosin) takes out green alone, blue (azure B) takes out red too.

    Densities under 0.01 count as that. None where there is no cytoplasm.
    """
    return None if red is None or green is None else max(green, 0.01) / max(red, 0.01)


def density_of(grey: Pixels) -> Values:
    """Return the optical density of grey levels, (H, W) float32, against white."""
    return np.asarray(cv2.LUT(grey, _DENSITY_OF_LEVEL), np.float32)


def fine_contrast(density: Values, part: Mask, scale_px: float) -> float | None:
    """Return the standard deviation, inside `part`, of the density less its mean around each pixel; >= 0.

    "Around" is a Gaussian of `scale_px` that sees `part` alone, so that its border does not count as texture. Stronger
    or weaker light, or more dye everywhere, changes nothing. None where `part` has no pixel.
    """
    inside = part.astype(np.float32)
    if not part.any():
        return None
    # Densities are made small before they are blurred: float32 keeps more of them.
    level = float(density[part].mean())
    weighted = cv2.GaussianBlur((density - level) * inside, (0, 0), scale_px, borderType=cv2.BORDER_CONSTANT)
    weight = cv2.GaussianBlur(inside, (0, 0), scale_px, borderType=cv2.BORDER_CONSTANT)
    around = weighted[part] / np.maximum(weight[part], 1e-6)
    rest = density[part] - level - around
    return float(np.sqrt(np.mean(np.square(rest, dtype=np.float64))))


def within(part: Mask, distance_px: float) -> Mask:
    """Return the pixels of `part` that lie farther than `distance_px` from everything else."""
    padded = cv2.copyMakeBorder(part.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inner: Mask = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1] > distance_px
    return inner


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
