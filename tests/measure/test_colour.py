from __future__ import annotations

import numpy as np
import pytest

from buffycoat.measure.morphology import dark_nucleus, level_and_sd, red_blue_ratio, two_means_midpoint


def slow_midpoint(levels: np.ndarray) -> float:
    """Every split tried, by the definition of 2-means: least sum of squares about the two means."""
    best = min(
        (
            ((levels[levels <= cut] - levels[levels <= cut].mean()) ** 2).sum()
            + ((levels[levels > cut] - levels[levels > cut].mean()) ** 2).sum(),
            (levels[levels <= cut].mean() + levels[levels > cut].mean()) / 2,
        )
        for cut in np.unique(levels)[:-1]
    )
    return float(best[1])


@pytest.mark.parametrize("seed", range(5))
def test_the_split_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = np.concatenate([rng.normal(80, 20, 300), rng.normal(180, 15, 500)]).clip(0, 255).astype(np.uint8)
    rng.shuffle(levels)
    assert two_means_midpoint(levels) == pytest.approx(slow_midpoint(levels.astype(float)))


def test_two_levels_and_one() -> None:
    assert two_means_midpoint(np.array([10, 10, 10, 50], np.uint8)) == 30
    assert two_means_midpoint(np.array([0, 255], np.uint8)) == 127.5
    assert two_means_midpoint(np.full(9, 77, np.uint8)) is None
    assert two_means_midpoint(np.zeros(0, np.uint8)) is None


def test_the_dark_nucleus_stays_inside_the_cell() -> None:
    grey = np.full((20, 20), 200, np.uint8)
    grey[8:12, 8:12] = 60
    grey[0, :] = 0
    cell = np.zeros((20, 20), bool)
    cell[4:16, 4:16] = True
    nucleus = dark_nucleus(grey, cell)
    assert nucleus.sum() == 16 and nucleus[8:12, 8:12].all()
    assert np.array_equal(dark_nucleus(255 - grey, ~cell) & cell, np.zeros_like(cell))
    assert not dark_nucleus(np.full((20, 20), 9, np.uint8), cell).any()


def test_levels_and_ratio_count_the_part_alone() -> None:
    crop = np.zeros((4, 4, 3), np.uint8)
    crop[:2] = (120, 7, 60)
    part = np.zeros((4, 4), bool)
    part[:2] = True
    assert red_blue_ratio(crop, part) == pytest.approx(2)
    assert level_and_sd(crop[..., 0], part) == (120, 0)
    assert level_and_sd(crop[..., 0], np.ones((4, 4), bool)) == (60, 60)
    # No blue at all gives a large number, not an error.
    assert red_blue_ratio(np.full((2, 2, 3), (9, 9, 0), np.uint8), np.ones((2, 2), bool)) > 1000
