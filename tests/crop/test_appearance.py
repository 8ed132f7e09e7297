from __future__ import annotations

import numpy as np
import pytest

from buffycoat.crop.embedded_method import STANDARD_DENSITY, canonical, clear_glass
from tests.crop.drawing import add_cell, field


def smear() -> np.ndarray:
    image = field(160)
    add_cell(image, 80, 80, 35)
    return image


def standardised(image: np.ndarray) -> np.ndarray:
    return canonical(image, clear_glass(image))


@pytest.mark.parametrize("gains", [(0.6, 0.6, 0.6), (1.0, 0.9, 0.6)])
def test_the_colour_and_strength_of_the_light_do_not_matter(gains: tuple[float, float, float]) -> None:
    image = smear()
    dimmed = np.rint(image * np.array(gains)).astype(np.uint8)
    assert np.abs(standardised(dimmed) - standardised(image)).max() < 0.03


def test_the_strength_of_the_stain_does_not_matter() -> None:
    image = smear()
    faint = np.rint(240 * (image / 240.0) ** 0.6).clip(0, 255).astype(np.uint8)
    assert np.abs(standardised(faint) - standardised(image)).mean() < 0.02


def test_the_darkest_stain_comes_to_the_standard_density() -> None:
    density = -np.log10(standardised(smear())).mean(axis=2)
    assert abs(np.percentile(density, 99) - STANDARD_DENSITY) < 0.02


def test_an_empty_field_is_not_amplified_into_cells() -> None:
    glass = np.full((64, 64, 3), 240, np.uint8)
    glass[::2, ::2] = 238
    assert standardised(glass).min() > 0.95


def test_a_black_image_stays_finite() -> None:
    view = standardised(np.zeros((16, 16, 3), np.uint8))
    assert np.isfinite(view).all() and view.min() >= 0 and view.max() <= 1
