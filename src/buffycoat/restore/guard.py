"""Whether a restored crop may replace its original: it must be less noisy and must not have moved the cell's parts.

A noisy crop cannot be segmented again by colour, so both versions are measured in the same way, inside the mask that
was carried along: levels of grey are taken where the mask says nucleus, cytoplasm and surroundings, after a median
filter, and areas are counted at the midpoints between them. What the measure gets wrong it gets wrong in both.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from buffycoat.data.images import BACKGROUND, NUCLEUS, Pixels, grey_of, noise_score

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

RIM = 0.05
"""How far outside the mask a cell is looked for, as a share of the crop's side."""
LEAST_CONTRAST = 0.5
"""A part whose contrast falls below this share of what it was has vanished: its area counts as 0."""


MAX_NUCLEUS_CHANGE = 0.2
"""Restorations are refused that change the nucleus's area by more than this share, either way; ours."""
MAX_CELL_CHANGE = 0.15
"""The same for the cell's area; ours."""


@dataclass(frozen=True)
class Verdict:
    """Whether the restored pixels are used, the measurements before and after, and why."""

    restored: bool
    noise_before: float
    noise_after: float
    nucleus_change: float
    cell_change: float
    reason: str


@dataclass(frozen=True)
class Regions:
    """Where the mask says that the parts of a crop are, all (H, W) bool."""

    nucleus: Bools
    cytoplasm: Bools
    cell: Bools
    near: Bools
    """The cell and its rim."""
    glass: Bools
    """Outside of both, without the padding of windows that leave their image."""


def smooth_grey(image: Pixels) -> Floats:
    """Return the grey level after a 5x5 median filter per channel and a slight Gaussian, (H, W) float32, 0..255.

    Per channel and by median, because clipped noise shifts the mean of an almost white or black channel.
    """
    grey = grey_of(np.asarray(cv2.medianBlur(image, 5), np.uint8))
    return np.asarray(cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.0), np.float32)


def regions_of(original: Pixels, mask: Pixels) -> Regions:
    """Return the regions of a crop (H, W, 3) with its mask (H, W); a mask without a nucleus is split by Otsu."""
    cell = mask != BACKGROUND if (mask != BACKGROUND).any() else np.ones(mask.shape, bool)
    nucleus = mask == NUCLEUS
    if not nucleus.any():
        grey = smooth_grey(original)
        levels = grey[cell].astype(np.uint8).reshape(-1, 1)
        nucleus = cell & (grey <= cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0])
    reach = 2 * max(1, round(RIM * mask.shape[0])) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    near = cv2.dilate(cell.astype(np.uint8), disc).astype(bool)
    padding = (cv2.medianBlur(original, 5) == 255).all(axis=2)
    return Regions(nucleus, cell & ~nucleus, cell, near, ~near & ~padding)


def part_areas(image: Pixels, regions: Regions) -> tuple[float, float, float, float]:
    """Return nucleus area and cell area, pixels, and the contrast of each, as a share of the glass's grey level.

    The nucleus is what is darker than the midpoint between the median levels of nucleus and cytoplasm; the cell what is
    darker than the midpoint between cytoplasm and glass (the 90th percentile of the surroundings). A part without
    pixels to take a level from has area and contrast 0.
    """
    grey = smooth_grey(image)
    dark = float(np.median(grey[regions.nucleus])) if regions.nucleus.any() else 0.0
    middle = float(np.median(grey[regions.cytoplasm])) if regions.cytoplasm.any() else dark
    clear = float(np.percentile(grey[regions.glass], 90)) if regions.glass.any() else middle
    nucleus = float((grey[regions.cell] < (dark + middle) / 2).sum()) if middle > dark else 0.0
    cell = float((grey[regions.near] < (middle + clear) / 2).sum()) if clear > middle else 0.0
    scale = max(clear, 1.0)
    return nucleus, cell, (middle - dark) / scale, (clear - middle) / scale


def area_changes(original: Pixels, restored: Pixels, mask: Pixels) -> tuple[float, float]:
    """Return by what share the areas of nucleus and cell differ from the original's: 0 the same, -1 gone, 1 twice.

    Parameters: original, restored (H, W, 3) uint8; mask (H, W) uint8. A part that the original does not show (no
    contrast to be measured against) counts as unchanged.
    """
    regions = regions_of(original, mask)
    before, after = part_areas(original, regions), part_areas(restored, regions)
    nucleus, cell = (
        _change(before[part], after[part], before[2 + part] * LEAST_CONTRAST, after[2 + part]) for part in (0, 1)
    )
    return nucleus, cell


def _change(before: float, after: float, least_contrast: float, contrast: float) -> float:
    if before == 0:
        return 0.0
    return -1.0 if contrast < least_contrast else after / before - 1


def judge_restoration(original: Pixels, restored: Pixels, mask: Pixels, guard: bool) -> Verdict:
    """Return the verdict on one crop; without a guard every restoration is used, measured all the same.

    Parameters: original, restored (H, W, 3) uint8; mask (H, W) uint8.
    """
    noise = noise_score(original, mask), noise_score(restored, mask)
    nucleus, cell = area_changes(original, restored, mask)
    measured = f"noise score {noise[0]:.1f} to {noise[1]:.1f}, nucleus area {nucleus:+.0%}, cell area {cell:+.0%}"
    refusals = []
    if noise[1] >= noise[0]:
        refusals.append(f"noise score {noise[0]:.1f} would become {noise[1]:.1f}")
    for part, change, limit in (
        ("nucleus", nucleus, MAX_NUCLEUS_CHANGE),
        ("cell", cell, MAX_CELL_CHANGE),
    ):
        if abs(change) > limit:
            refusals.append(f"{part} area would change by {change:+.0%}, limit {limit:.0%}")
    if not guard:
        return Verdict(True, *noise, nucleus, cell, f"restored, unguarded: {measured}")
    if refusals:
        return Verdict(False, *noise, nucleus, cell, f"refused: {'; '.join(refusals)}")
    return Verdict(True, *noise, nucleus, cell, f"restored: {measured}")
