from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from buffycoat.measure.morphology import lobe_count

Mask = npt.NDArray[np.bool_]


def drawn(circles: list[tuple[int, int, int]], lines: list[tuple[int, int, int, int, int]] | None = None) -> Mask:
    """Circles (x, y, radius) and lines (x, y, x, y, thickness)."""
    canvas = np.zeros((128, 128), np.uint8)
    for x, y, radius in circles:
        cv2.circle(canvas, (x, y), radius, 1, -1)
    for x1, y1, x2, y2, thick in lines or []:
        cv2.line(canvas, (x1, y1), (x2, y2), 1, thick)
    return canvas.astype(bool)


def test_round_oval_and_band_nuclei_have_one_lobe() -> None:
    assert lobe_count(drawn([(64, 64, 30)])) == 1
    oval = np.zeros((128, 128), np.uint8)
    cv2.ellipse(oval, ((64, 64), (80, 40), 30), 1, -1)
    assert lobe_count(oval.astype(bool)) == 1
    band = np.zeros((128, 128), np.uint8)
    cv2.ellipse(band, (64, 64), (40, 40), 0, 20, 250, 1, 18)
    assert lobe_count(band.astype(bool)) == 1


@pytest.mark.parametrize("bridge", [0, 3, 7])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_lobes_apart_or_joined_by_bridges_are_counted(count: int, bridge: int) -> None:
    places = [(20 + 30 * k, 50 + 28 * (k % 2)) for k in range(count)]
    lines = [(*places[k], *places[k + 1], bridge) for k in range(count - 1)] if bridge else None
    assert lobe_count(drawn([(x, y, 13) for x, y in places], lines)) == count


def test_fragments_and_ragged_borders_are_no_lobes() -> None:
    assert lobe_count(drawn([(64, 64, 30), (110, 110, 5)])) == 1
    ragged = drawn([(64, 64, 30)])
    noise = np.random.default_rng(0).random((128, 128)) < 0.3
    rim = drawn([(64, 64, 31)]) & ~drawn([(64, 64, 29)])
    assert lobe_count(ragged & ~(rim & noise)) == 1


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turning_and_enlarging_change_nothing(turns: int) -> None:
    nucleus = drawn([(40, 64, 20), (90, 64, 16)], [(40, 64, 90, 64, 6)])
    assert lobe_count(np.rot90(nucleus, turns).copy()) == lobe_count(nucleus) == 2
    assert lobe_count(nucleus.repeat(3, 0).repeat(3, 1)) == 2


def test_a_pixel_and_a_full_mask_have_one_lobe() -> None:
    pixel = np.zeros((5, 5), bool)
    pixel[2, 2] = True
    assert lobe_count(pixel) == lobe_count(np.ones((5, 5), bool)) == 1
