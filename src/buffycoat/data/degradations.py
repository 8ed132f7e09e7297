"""What goes wrong in a smear image: noise, blur, light. Severity 0 changes nothing, 1 to 4 are the challenge's levels.

Shared by the simulation, the training pairs of restoration, and the augmentation of branch A.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from buffycoat.data.images import Pixels

Degradation = Callable[[Pixels, float, np.random.Generator], Pixels]


def salt_and_pepper(image: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """Set 4 % of the pixels per level of severity to black or white, as the paper's synthetic pairs do."""
    share = 0.04 * severity
    draw = rng.random(image.shape[:2], dtype=np.float32)
    result = image.copy()
    result[draw < share / 2] = 0
    result[draw > 1 - share / 2] = 255
    return result


def coloured_gaussian(image: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """Add Gaussian noise, independent per channel and stronger where it is bright, and darken a little.

    At severity 4 it is the noise of the paper's public implementation: standard deviation
    1.7 * 80 * (0.6 + 0.8 g / 255) on a share U(0.95, 0.99) of the pixels, then * 0.7. Both fall with severity.
    """
    if severity == 0:
        return image.copy()
    strength = severity / 4
    level = image.astype(np.float32).mean(axis=2, keepdims=True) / 255
    hit = rng.random(image.shape[:2], dtype=np.float32)[..., None] < rng.uniform(0.95, 0.99)
    noise = rng.standard_normal(image.shape, dtype=np.float32) * (1.7 * 80 * strength) * (0.6 + 0.8 * level)
    result = (image + np.where(hit, noise, 0)) * (1 - 0.3 * strength)
    return np.asarray(np.clip(result, 0, 255).astype(np.uint8))


def blur(image: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """Blur by a Gaussian of 0.6 % of the image's side per level of severity (2.2 pixels per level at 368)."""
    if severity == 0:
        return image.copy()
    sigma = 0.006 * image.shape[0] * severity
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def illumination(image: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """Darken or brighten by up to 10 % per level, with a gradient across the field and a shift of its colour."""
    if severity == 0:
        return image.copy()
    height, width = image.shape[:2]
    angle, sign = rng.uniform(0, 2 * np.pi), rng.choice([-1.0, -1.0, 1.0])
    rows, cols = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    slope = (np.cos(angle) * rows + np.sin(angle) * cols) * 0.06 * severity
    tint = 1 + rng.uniform(-0.015, 0.015, 3).astype(np.float32) * severity
    gain = (1 + sign * 0.1 * severity * (0.6 if sign > 0 else 1.0) + slope)[..., None] * tint
    return np.asarray(np.clip(image * gain, 0, 255).astype(np.uint8))


DEGRADATIONS: dict[str, Degradation] = {
    "salt_and_pepper": salt_and_pepper,
    "coloured_gaussian": coloured_gaussian,
    "blur": blur,
    "illumination": illumination,
}
"""Each takes an (H, W, 3) uint8 RGB image, a severity 0..4 and a random generator, and returns a new image like it."""
