"""Cells that the tests of this stage draw."""

from __future__ import annotations

import cv2
import numpy as np

from buffycoat.data.images import BACKGROUND, CYTOPLASM, Pixels


def cell(seed: int, side: int = 64) -> tuple[Pixels, Pixels]:
    """A textured disc on a light ground, and its mask."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:side, :side]
    mask = np.where(np.hypot(rows - side / 2, cols - side / 2) < side * 0.36, CYTOPLASM, BACKGROUND).astype(np.uint8)
    texture = cv2.resize(rng.normal(0, 22, (side // 2, side // 2)).astype(np.float32), (side, side))
    level = np.where(mask == CYTOPLASM, 120 + rng.uniform(-15, 15), 225) + texture * (mask == CYTOPLASM)
    crop = np.clip(level[..., None] + np.array([10, -20, 25]) + rng.normal(0, 1.5, (side, side, 3)), 0, 255)
    return crop.astype(np.uint8), mask
