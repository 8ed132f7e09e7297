from __future__ import annotations

import cv2
import numpy as np
import pytest

from buffycoat.data.cell_types import CELL_TYPES
from buffycoat.data.images import BACKGROUND, CYTOPLASM, NUCLEUS, Pixels
from buffycoat.data.random import stream
from buffycoat.simulate.painting import LOOKS, draw_field, draw_slide

Field = tuple[Pixels, Pixels]
COUNT = 8


@pytest.fixture(scope="module")
def fields() -> dict[str, list[Field]]:
    return {
        label: [
            draw_field(label, draw_slide(stream(1, "slide", i)), stream(1, "field", label, i)) for i in range(COUNT)
        ]
        for label in LOOKS
    }


def nucleus_ratio(mask: Pixels) -> float:
    return float((mask == NUCLEUS).sum() / (mask != BACKGROUND).sum())


def nucleus_offset(mask: Pixels) -> float:
    """Distance of the centroids of cell and nucleus in radii of the cell."""
    cell = mask != BACKGROUND
    middles = [np.argwhere(part).mean(axis=0) for part in (cell, mask == NUCLEUS)]
    return float(np.linalg.norm(middles[0] - middles[1]) / np.sqrt(cell.sum() / np.pi))


def spikiness(mask: Pixels) -> float:
    outlines = cv2.findContours((mask != BACKGROUND).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    points = max(outlines, key=cv2.contourArea)[:, 0]
    moments = cv2.moments(points)
    middle = np.array([moments["m10"], moments["m01"]]) / moments["m00"]
    distance = np.linalg.norm(points - middle, axis=1)
    return float(distance.max() / np.median(distance))


def solidity(mask: Pixels) -> float:
    """Area of the nucleus over that of its convex hull: near 1 for round ones, small for bands and lobes."""
    nucleus = (mask == NUCLEUS).astype(np.uint8)
    points = cv2.findNonZero(nucleus)
    return float(nucleus.sum() / cv2.contourArea(cv2.convexHull(points)))


def median_of(fields: dict[str, list[Field]], label: str, measure: object) -> float:
    assert callable(measure)
    return float(np.median([measure(mask) for _, mask in fields[label]]))


def test_every_class_of_the_challenge_has_a_look() -> None:
    assert list(LOOKS) == list(CELL_TYPES)


@pytest.mark.parametrize("label", LOOKS)
def test_a_field_has_one_cell_with_its_nucleus_inside(fields: dict[str, list[Field]], label: str) -> None:
    for image, mask in fields[label]:
        assert image.shape == (368, 368, 3) and image.dtype == np.uint8
        assert mask.shape == (368, 368) and mask.dtype == np.uint8
        assert set(np.unique(mask)) == {BACKGROUND, CYTOPLASM, NUCLEUS}
        assert cv2.connectedComponents((mask != BACKGROUND).astype(np.uint8))[0] == 2
        border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        assert not border.any()
        grown = cv2.dilate((mask == NUCLEUS).astype(np.uint8), np.ones((3, 3), np.uint8))
        # The cytoplasm may be very thin on one side, but almost all of the nucleus is surrounded by the cell.
        assert (grown[mask == BACKGROUND] == 1).sum() < 0.05 * (mask == NUCLEUS).sum()


@pytest.mark.parametrize("label", LOOKS)
def test_nuclei_are_stained_dark_and_purple(fields: dict[str, list[Field]], label: str) -> None:
    for image, mask in fields[label]:
        red, green, blue = image[mask == NUCLEUS].astype(float).mean(axis=0)
        assert green < red and green < blue and red < blue
        assert green < image[mask == CYTOPLASM][:, 1].mean() < image[mask == BACKGROUND][:, 1].mean()


def test_cytoplasm_has_the_colour_of_its_class(fields: dict[str, list[Field]]) -> None:
    def red_over_blue(label: str) -> float:
        return float(
            np.median([np.divide(*image[mask == CYTOPLASM].mean(axis=0)[[0, 2]]) for image, mask in fields[label]])
        )

    assert red_over_blue("EO") > red_over_blue("SNE") > red_over_blue("MO") > red_over_blue("LY") > red_over_blue("PC")


def test_the_nucleus_fills_more_of_the_cells_that_have_little_cytoplasm(fields: dict[str, list[Field]]) -> None:
    ratio = {label: median_of(fields, label, nucleus_ratio) for label in LOOKS}
    assert min(ratio["BL"], ratio["LY"]) > ratio["PMY"] > ratio["MY"] > ratio["PC"]
    assert ratio["LY"] > ratio["PLY"] > ratio["VLY"]


def test_plasma_cells_have_the_most_eccentric_nucleus(fields: dict[str, list[Field]]) -> None:
    offset = {label: median_of(fields, label, nucleus_offset) for label in LOOKS}
    assert max(offset, key=lambda label: offset[label]) == "PC"
    assert offset["PC"] > 0.3 > offset["BL"]


def test_prolymphocytes_have_projections(fields: dict[str, list[Field]]) -> None:
    # 1.35: the paper's gate (arXiv 2603.16249, Algorithm 1).
    assert median_of(fields, "PLY", spikiness) > 1.35
    assert all(spikiness(mask) < 1.35 for _, mask in fields["LY"])


def test_the_nucleus_is_ever_more_indented_from_myelocyte_to_segmented_neutrophil(
    fields: dict[str, list[Field]],
) -> None:
    shape = {label: median_of(fields, label, solidity) for label in ("MY", "MMY", "BNE", "SNE")}
    assert shape["MY"] > shape["MMY"] > max(shape["BNE"], shape["SNE"])


def test_a_field_depends_on_its_arguments_alone() -> None:
    def draw() -> Field:
        return draw_field("EO", draw_slide(stream(1, "slide", 0)), stream(1, "field", "a"))

    first, second = draw(), draw()
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])
    other = draw_field("EO", draw_slide(stream(1, "slide", 0)), stream(1, "field", "b"))
    assert not np.array_equal(first[0], other[0])


def test_patients_differ_in_stain_and_light() -> None:
    slides = [draw_slide(stream(1, "slide", i)) for i in range(6)]
    assert np.ptp([slide.glass for slide in slides], axis=0).min() > 1
    assert np.ptp([slide.stain for slide in slides], axis=0).min() > 0.02
