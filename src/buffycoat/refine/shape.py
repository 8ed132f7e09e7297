"""Shape of a cell and of its nucleus, from masks alone; no colour enters here."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from skimage.measure import perimeter_crofton

Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]


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
