"""Optical density of a cell: how much dye lies in the light's way, and how finely it is divided."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from buffycoat.images import Pixels

Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float32]

LEAST_GLASS = 0.05
"""Share of a crop that must lie outside the cell for its glass to be looked at; below, glass counts as white."""
_DENSITY_OF_LEVEL = (-np.log10((np.arange(256) + 1) / 256)).astype(np.float32)


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
