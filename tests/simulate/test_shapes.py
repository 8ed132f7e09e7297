from __future__ import annotations

import numpy as np
import pytest

from buffycoat.data.random import stream
from buffycoat.simulate.painting import clouds, dots, filled, rounded, stretched, stroked, wavy_circle, with_spikes

SHAPE = (80, 80)
MIDDLE = np.array([40.0, 40.0])


def test_a_circle_without_waves_is_round() -> None:
    radii = np.linalg.norm(wavy_circle(stream(1, "a"), 20.0, 0.0), axis=1)
    np.testing.assert_allclose(radii, 20.0)


@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2])
def test_stretching_keeps_the_area_and_has_the_ratio(angle: float) -> None:
    circle = wavy_circle(stream(1, "a"), 20.0, 0.0)
    oval = stretched(circle, 1.44, angle)

    def area(points: np.ndarray) -> float:
        x, y = points.T
        return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)

    assert area(oval) == pytest.approx(area(circle))
    radii = np.linalg.norm(oval, axis=1)
    assert radii.max() / radii.min() == pytest.approx(1.44, rel=0.01)


def test_spikes_only_add() -> None:
    circle = wavy_circle(stream(1, "a"), 20.0, 0.0)
    gain = np.linalg.norm(with_spikes(stream(1, "b"), circle, 1, 0.5), axis=1) / 20.0
    assert gain.min() >= 1 and 1.3 < gain.max() <= 1.5 and np.median(gain) < 1.05


def test_a_filled_disc_has_its_area() -> None:
    disc = filled(SHAPE, [wavy_circle(stream(1, "a"), 20.0, 0.0) + MIDDLE])
    assert disc.dtype == np.float32 and disc.min() == 0 and disc.max() == 1
    # The outline runs along pixel centres, so up to half a pixel more is covered.
    assert np.pi * 20**2 <= disc.sum() + 10 and disc.sum() <= np.pi * 20.7**2


def test_a_stroke_has_an_even_width_that_grows_as_asked() -> None:
    path = np.array([[10.0, 40.0], [70.0, 40.0]])
    thin, thick = stroked(SHAPE, path, 9.0), stroked(SHAPE, path, 15.0)
    # OpenCV smooths outwards, by about two pixels in all, so only the difference is exact.
    assert thick[:, 40].sum() - thin[:, 40].sum() == pytest.approx(6.0, abs=0.5)
    assert 9.0 <= thin[:, 40].sum() <= 12.0
    np.testing.assert_allclose(thin[:, 15:65].sum(axis=0), thin[:, 40].sum())


def test_rounding_keeps_a_disc_and_removes_a_thread() -> None:
    disc = filled(SHAPE, [wavy_circle(stream(1, "a"), 20.0, 0.0) + MIDDLE])
    assert rounded(disc, 3.0).sum() == pytest.approx(disc.sum(), rel=0.06)
    thread = stroked(SHAPE, np.array([[10.0, 40.0], [70.0, 40.0]]), 2.0)
    assert rounded(thread, 4.0).max() < 0.1


def test_dots_lie_where_they_may() -> None:
    inside = np.zeros(SHAPE, np.float32)
    inside[:, :30] = 1
    drawn = dots(stream(1, "a"), SHAPE, inside, 40, (1.0, 2.0))
    assert drawn[:, :30].max() > 0.5 and drawn[:, 35:].max() == 0
    assert dots(stream(1, "a"), SHAPE, np.zeros(SHAPE, np.float32), 5, (1.0, 2.0)).max() == 0


def test_clouds_have_mean_zero_and_coarser_grain_is_smoother() -> None:
    fine, coarse = (clouds(stream(1, "a"), (400, 300), grain) for grain in (4.0, 16.0))
    assert fine.shape == coarse.shape == (400, 300)
    assert abs(fine.mean()) < 0.1 and 0.5 < fine.std() < 1.3
    assert np.abs(np.diff(coarse, axis=1)).mean() < 0.5 * np.abs(np.diff(fine, axis=1)).mean()
