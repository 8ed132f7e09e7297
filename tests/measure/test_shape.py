from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from skimage.measure import regionprops

from buffycoat.measure.morphology import (
    centroid,
    circularity,
    eccentricity,
    enclosed_area,
    irregularity,
    offset_radii,
    outline,
    perimeter,
    solidity,
    spikiness,
)

Mask = npt.NDArray[np.bool_]


def polar(
    radius: float, wave: float = 0.0, spikes: int = 6, turn: float = 0.0, row: float = 112, col: float = 112
) -> Mask:
    """A shape of radius * (1 + wave * cos(spikes * angle)), drawn by the definition, pixel by pixel."""
    rows, cols = np.mgrid[:224, :224]
    angle = np.arctan2(rows - row, cols - col) - turn
    inside: Mask = np.hypot(rows - row, cols - col) <= radius * (1 + wave * np.cos(spikes * angle))
    return inside


def ellipse(long: float, short: float, degrees: float = 0.0) -> Mask:
    canvas = np.zeros((224, 224), np.uint8)
    cv2.ellipse(canvas, ((112, 112), (2 * long, 2 * short), degrees), 1, -1)
    return canvas.astype(bool)


@pytest.mark.parametrize("radius", [15, 30, 70])
def test_a_circle_is_not_spiky(radius: float) -> None:
    assert 1 <= spikiness(outline(polar(radius))) < 1.05


def test_a_star_is_spiky_and_the_value_is_that_of_its_formula() -> None:
    # The contour is densest at the tips, so its median radius is found on finely sampled arc length.
    angle = np.linspace(0, 2 * np.pi, 200_001)
    radius = 60 * (1 + 0.4 * np.cos(6 * angle))
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    weight = np.maximum(abs(np.diff(x)), abs(np.diff(y)))
    order = np.argsort(radius[:-1])
    middle = radius[:-1][order][np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2)]
    found = spikiness(outline(polar(60, 0.4)))
    assert found > 1.35
    assert found == pytest.approx(radius.max() / middle, rel=0.03)


def test_spikiness_grows_with_the_spikes() -> None:
    found = [spikiness(outline(polar(60, wave))) for wave in (0, 0.1, 0.2, 0.3, 0.4)]
    assert found == sorted(found) and found[-1] > found[0] + 0.3


@pytest.mark.parametrize("wave", [0.0, 0.15, 0.35])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_and_mirrors_change_nothing(wave: float, turns: int) -> None:
    cell = polar(50, wave, 5, 0.3, 100, 120)
    nucleus = polar(20, 0.3, 3, 0.1, 95, 128)
    for mirror in (False, True):

        def moved(part: Mask, mirror: bool = mirror) -> Mask:
            return np.ascontiguousarray(np.rot90(part.T if mirror else part, turns))

        assert spikiness(outline(moved(cell))) == pytest.approx(spikiness(outline(cell)), rel=1e-5)
        assert solidity(moved(nucleus)) == pytest.approx(solidity(nucleus), rel=1e-12)
        assert eccentricity(moved(nucleus)) == pytest.approx(eccentricity(nucleus), abs=1e-9)
        assert offset_radii(moved(cell), moved(nucleus)) == pytest.approx(offset_radii(cell, nucleus), abs=1e-9)


@pytest.mark.parametrize("turn", [0.2, 0.5, 1.0])
def test_any_turn_changes_little(turn: float) -> None:
    straight, turned = polar(60, 0.3), polar(60, 0.3, turn=turn)
    assert spikiness(outline(turned)) == pytest.approx(spikiness(outline(straight)), rel=0.04)
    assert solidity(turned) == pytest.approx(solidity(straight), rel=0.02)


def test_moving_changes_nothing() -> None:
    cell = polar(40, 0.3)
    moved = np.roll(cell, (-21, 17), (0, 1))
    assert spikiness(outline(moved)) == pytest.approx(spikiness(outline(cell)), rel=1e-5)
    assert solidity(moved) == solidity(cell)
    assert eccentricity(moved) == pytest.approx(eccentricity(cell), abs=1e-6)


@pytest.mark.parametrize("size", [25, 50])
def test_size_changes_little(size: float) -> None:
    for wave in (0.0, 0.3):
        assert spikiness(outline(polar(size, wave))) == pytest.approx(spikiness(outline(polar(75, wave))), rel=0.05)
    assert solidity(polar(size, 0.3)) == pytest.approx(solidity(polar(75, 0.3)), rel=0.04)


@pytest.mark.parametrize("part", [polar(40), polar(40, 0.3), ellipse(60, 30, 25), ellipse(70, 12, 90)])
def test_eccentricity_is_that_of_scikit_image(part: Mask) -> None:
    expected = regionprops(part.astype(np.uint8))[0].eccentricity  # type: ignore[no-untyped-call]
    assert eccentricity(part) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("part", [polar(40), polar(40, 0.3), ellipse(60, 30, 25)])
def test_solidity_is_near_that_of_scikit_image(part: Mask) -> None:
    # scikit-image counts the pixels of the hull, here its area is exact.
    expected = regionprops(part.astype(np.uint8))[0].solidity  # type: ignore[no-untyped-call]
    assert solidity(part) == pytest.approx(expected, abs=0.02)


def test_solidity_of_a_rectangle_is_one_and_of_lobes_less() -> None:
    part = np.zeros((50, 50), bool)
    part[10:20, 5:45] = True
    assert solidity(part) == pytest.approx(1)
    part[10:20, 15:35] = False
    assert solidity(part) == pytest.approx(0.5)


def test_offset_is_in_radii_of_the_cell() -> None:
    assert offset_radii(polar(40), polar(15)) == pytest.approx(0, abs=1e-9)
    assert offset_radii(polar(40), polar(15, col=132)) == pytest.approx(20 / 40, rel=0.01)
    assert centroid(polar(15, row=80, col=132)) == pytest.approx([132, 80])


def test_the_largest_part_is_outlined_and_holes_are_not() -> None:
    cell = polar(40)
    whole = outline(cell)
    cell[112, 112] = False
    cell[2:5, 2:5] = True
    assert np.array_equal(outline(cell), whole)
    assert enclosed_area(whole) == pytest.approx(np.pi * 40**2, rel=0.03)


def test_degenerate_outlines() -> None:
    assert len(outline(np.zeros((9, 9), bool))) == 0
    point = np.zeros((9, 9), bool)
    point[4, 4] = True
    assert enclosed_area(outline(point)) == 0
    assert spikiness(outline(point)) == 1
    assert solidity(point) == 1 and eccentricity(point) == pytest.approx(0)
    line = np.zeros((9, 9), bool)
    line[4, 1:8] = True
    assert enclosed_area(outline(line)) == 0
    assert solidity(line) == 1 and eccentricity(line) > 0.9


@pytest.mark.parametrize("radius", [15, 30, 70])
def test_the_perimeter_of_a_disc_is_its_circumference(radius: float) -> None:
    assert perimeter(polar(radius)) == pytest.approx(2 * np.pi * radius, rel=0.04)
    assert circularity(polar(radius)) > 0.93


def test_circularity_is_the_closed_form_of_ellipses_and_falls_with_spikes() -> None:
    # Ramanujan's second approximation of the perimeter.
    a, b = 80.0, 32.0
    h = ((a - b) / (a + b)) ** 2
    length = np.pi * (a + b) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h)))
    assert circularity(ellipse(a, b)) == pytest.approx(4 * np.pi * np.pi * a * b / length**2, rel=0.05)
    found = [circularity(polar(60, wave)) for wave in (0, 0.1, 0.2, 0.3, 0.4)]
    assert found == sorted(found, reverse=True) and found[-1] < 0.5


@pytest.mark.parametrize("turn", [0, 10, 33, 45])
def test_circularity_and_irregularity_hardly_depend_on_the_orientation(turn: float) -> None:
    straight, turned = ellipse(70, 45), ellipse(70, 45, turn)
    assert circularity(turned) == pytest.approx(circularity(straight), rel=0.03)
    assert abs(irregularity(outline(turned)) - irregularity(outline(straight))) < 0.01


def test_an_oval_is_regular_and_waves_are_as_irregular_as_their_formula() -> None:
    assert irregularity(outline(polar(60))) < 0.02 and irregularity(outline(ellipse(80, 40))) < 0.03
    # A small wave of amplitude w has the root mean square w / sqrt(2).
    assert irregularity(outline(polar(90, 0.06, spikes=5))) == pytest.approx(0.06 / np.sqrt(2), rel=0.1)
    assert irregularity(outline(np.zeros((9, 9), bool))) == 0


def test_shapes_of_single_pixels_are_finite() -> None:
    pixel = np.zeros((9, 9), bool)
    pixel[4, 4] = True
    assert 0 < circularity(pixel) <= 1 and irregularity(outline(pixel)) == 0 and perimeter(pixel) > 0
