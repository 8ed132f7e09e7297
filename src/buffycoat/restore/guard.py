"""Whether a restored crop may replace its original: it must be less noisy and must not have moved the cell's parts."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from buffycoat.images import BACKGROUND, Pixels
from buffycoat.quality import grey_of, noise_score


@dataclass(frozen=True)
class Verdict:
    """Whether the restored pixels are used, the noise score before and after, and why."""

    restored: bool
    noise_before: float
    noise_after: float
    reason: str


def area_change(original: Pixels, restored: Pixels, mask: Pixels) -> float:
    """Return by what share the dark part of the cell differs, 0 (same area) ... ; unitless.

    The dark part of each version is what a two-means split of its median-filtered grey levels inside the cell puts on
    the dark side: the nucleus, wherever brightness as a whole lies.
    """
    cell = mask != BACKGROUND if (mask != BACKGROUND).any() else np.ones(mask.shape, bool)
    before, after = (_dark_area(image, cell) for image in (original, restored))
    return abs(after - before) / max(before, 1)


def _dark_area(image: Pixels, cell: np.ndarray) -> int:
    levels = cv2.medianBlur(grey_of(image), 5)[cell]
    level = cv2.threshold(levels.reshape(-1, 1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0]
    return int((levels <= level).sum())


def judge_restoration(original: Pixels, restored: Pixels, mask: Pixels, guard: bool, max_area_change: float) -> Verdict:
    """Return the verdict on one crop; without a guard every restoration is used.

    Parameters: original, restored (H, W, 3) uint8; mask (H, W) uint8.
    """
    before, after = noise_score(original, mask), noise_score(restored, mask)
    change = area_change(original, restored, mask)
    if not guard:
        return Verdict(True, before, after, "restored, unguarded")
    if after >= before:
        return Verdict(False, before, after, f"refused: noise score {before:.1f} would become {after:.1f}")
    if change > max_area_change:
        return Verdict(False, before, after, f"refused: the dark area would change by {change:.0%}")
    return Verdict(True, before, after, f"restored: noise score {before:.1f} became {after:.1f}")
