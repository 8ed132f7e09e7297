from __future__ import annotations

import numpy as np
import pytest

from buffycoat.measure.morphology import (
    channel_densities,
    density_of,
    eosinophilia,
    fine_contrast,
    glass_levels,
    within,
)


def disc(radius: float, size: int = 96) -> np.ndarray:
    rows, cols = np.mgrid[:size, :size] - (size - 1) / 2
    return np.asarray(np.hypot(rows, cols) <= radius)


def test_the_glass_is_the_bright_part_outside_the_cell() -> None:
    cell = disc(30)
    crop = np.full((96, 96, 3), (230, 220, 210), np.uint8)
    crop[cell] = 255
    crop[:30] = (150, 90, 90)  # red cells cover a third of the field
    assert glass_levels(crop, cell).tolist() == [230, 220, 210]
    assert glass_levels(crop, np.ones_like(cell)).tolist() == [255, 255, 255]


def test_densities_are_lambert_and_beers() -> None:
    cell = disc(30)
    crop = np.full((96, 96, 3), 229, np.uint8)
    crop[cell] = (22, 113, 229)
    red, green, blue = channel_densities(crop, cell, glass_levels(crop, cell))
    assert (red, green, blue) == pytest.approx((1.0, np.log10(230 / 114), 0), abs=1e-6)


def test_pink_is_eosinophilic_and_blue_is_not() -> None:
    cell = disc(30)
    found = []
    for colour in ((225, 150, 200), (120, 130, 225)):
        crop = np.full((96, 96, 3), 229, np.uint8)
        crop[cell] = colour
        red, green, _ = channel_densities(crop, cell, glass_levels(crop, cell))
        found.append(eosinophilia(red, green))
    assert found[0] is not None and found[1] is not None and found[0] > 5 > 2 > found[1]
    assert eosinophilia(None, None) is None and eosinophilia(-0.1, 0.0) == 1


def test_density_of_white_is_nothing_and_of_black_the_most() -> None:
    grey = np.array([[255, 127, 0]], np.uint8)
    assert density_of(grey).tolist()[0] == pytest.approx([0, np.log10(2), np.log10(256)])


def test_fine_contrast_is_the_spread_of_fine_noise_and_blind_to_shading() -> None:
    rng, part = np.random.default_rng(0), disc(40)
    noise = rng.normal(0, 0.05, part.shape).astype(np.float32)
    slope = np.linspace(0, 0.6, 96, dtype=np.float32)[None].repeat(96, 0)
    found = fine_contrast(1 + noise, part, 4.0)
    assert found == pytest.approx(0.05, rel=0.05)
    assert fine_contrast(1 + noise + slope, part, 4.0) == pytest.approx(found, rel=0.06)
    assert fine_contrast(1 + slope, part, 4.0) < 0.25 * found
    assert fine_contrast(np.ones_like(noise), part, 4.0) == pytest.approx(0, abs=1e-6)
    assert fine_contrast(noise, np.zeros_like(part), 4.0) is None


def test_what_is_outside_the_part_does_not_count() -> None:
    rng, part = np.random.default_rng(0), disc(30)
    density = rng.normal(1, 0.05, part.shape).astype(np.float32)
    other = density.copy()
    other[~part] = 9
    assert fine_contrast(other, part, 4.0) == fine_contrast(density, part, 4.0)


def test_granules_raise_the_contrast() -> None:
    part, rows = disc(40), np.mgrid[:96, :96]
    plain = np.full((96, 96), 0.3, np.float32)
    grained = plain + 0.2 * ((rows[0] % 8 < 3) & (rows[1] % 8 < 3))
    assert fine_contrast(grained.astype(np.float32), part, 4.0) > 0.05


def test_a_rim_is_left_out_also_at_the_images_border() -> None:
    inner = within(disc(30), 5.0)
    assert inner.sum() == pytest.approx(disc(25).sum(), rel=0.03)
    full = within(np.ones((20, 20), bool), 3.0)
    assert full.sum() == 14 * 14
    assert not within(np.zeros((9, 9), bool), 1.0).any()
