"""Simple fields for tests: a white cell is a purple disc in a lilac one, red cells are pink discs."""

from __future__ import annotations

import cv2
import numpy as np

from buffycoat.data.images import Pixels

GLASS, RED_CELL, CYTOPLASM_INK, NUCLEUS_INK = (242, 240, 238), (225, 165, 165), (205, 190, 225), (95, 45, 140)


def field(side: int = 240, red_cells: int = 8, seed: int = 0) -> Pixels:
    """An empty field with red cells near its edges."""
    image = np.full((side, side, 3), GLASS, np.uint8)
    rng = np.random.default_rng(seed)
    for angle in rng.uniform(0, 2 * np.pi, red_cells):
        centre = side / 2 + 0.42 * side * np.array([np.cos(angle), np.sin(angle)])
        cv2.circle(image, (int(centre[0]), int(centre[1])), int(0.09 * side), RED_CELL, -1, cv2.LINE_AA)
    return image


def add_cell(image: Pixels, row: float, col: float, radius: int, nucleus: float = 0.6) -> Pixels:
    """Draw a white cell in place; return its mask of the whole cell (bool)."""
    cv2.circle(image, (int(col), int(row)), radius, CYTOPLASM_INK, -1, cv2.LINE_AA)
    cv2.circle(image, (int(col), int(row)), int(radius * nucleus), NUCLEUS_INK, -1, cv2.LINE_AA)
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.circle(mask, (int(col), int(row)), radius, 1, -1)
    return mask


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks."""
    return float((a & b).sum() / max(1, (a | b).sum()))
