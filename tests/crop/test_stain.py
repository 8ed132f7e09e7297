from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from buffycoat.crop.stain import choose_primary, nuclear_stain, optical_density, segment_by_stain
from buffycoat.data.images import BACKGROUND, NUCLEUS, Pixels
from tests.crop.drawing import NUCLEUS_INK, add_cell, field, iou


def segment(image: Pixels) -> tuple[Pixels, int]:
    return segment_by_stain(image)


def test_a_single_cell_is_found_with_its_nucleus() -> None:
    image = field()
    truth = add_cell(image, 120, 125, 45)
    mask, cells = segment(image)
    assert cells == 1
    assert iou(mask != BACKGROUND, truth > 0) > 0.85
    nucleus = (image == np.array(NUCLEUS_INK)).all(axis=2)
    assert iou(mask == NUCLEUS, nucleus) > 0.8


@pytest.mark.parametrize("gain", [0.7, 1.0, 1.25])
@pytest.mark.parametrize("light", [(1.0, 1.0, 1.0), (1.0, 0.95, 0.8), (0.75, 0.78, 0.85)])
def test_strength_of_stain_and_colour_of_light_do_not_matter(gain: float, light: tuple[float, float, float]) -> None:
    image = field()
    truth = add_cell(image, 118, 122, 46)
    stained = 245 * (image / 245.0) ** gain * np.array(light)
    mask, _ = segment(np.clip(stained, 0, 255).astype(np.uint8))
    assert iou(mask != BACKGROUND, truth > 0) > 0.8


def test_no_cell_is_no_cell() -> None:
    mask, cells = segment(field(red_cells=12))
    assert cells == 0 and (mask == BACKGROUND).all()
    blank = np.full((200, 200, 3), 240, np.uint8)
    assert segment(blank)[1] == 0
    assert segment(np.zeros((100, 100, 3), np.uint8))[1] == 0


def test_of_two_cells_the_central_one_is_chosen() -> None:
    image = field(300, red_cells=0)
    truth = add_cell(image, 150, 150, 42)
    add_cell(image, 50, 250, 42)
    mask, cells = segment(image)
    assert cells == 2
    assert iou(mask != BACKGROUND, truth > 0) > 0.8


def test_a_platelet_in_the_centre_does_not_beat_a_cell_beside_it() -> None:
    image = field(300, red_cells=0)
    truth = add_cell(image, 150, 95, 45)
    cv2.circle(image, (150, 150), 5, NUCLEUS_INK, -1)
    mask, cells = segment(image)
    assert cells == 1
    assert iou(mask != BACKGROUND, truth > 0) > 0.75


def test_the_neighbour_of_a_touching_pair_is_left_out() -> None:
    image = field(300, red_cells=0)
    truth = add_cell(image, 150, 135, 45)
    neighbour = add_cell(image, 150, 232, 45)
    mask, _ = segment(image)
    chosen = mask != BACKGROUND
    assert (chosen & (truth > 0)).sum() > 0.75 * truth.sum()
    assert (chosen & (neighbour > 0)).sum() < 0.25 * neighbour.sum()


def test_lobes_of_one_nucleus_are_one_cell() -> None:
    image = field(240, red_cells=0)
    truth = add_cell(image, 120, 120, 50, nucleus=0)
    for col, row in ((100, 105), (138, 108), (118, 142)):
        cv2.circle(image, (col, row), 14, NUCLEUS_INK, -1, cv2.LINE_AA)
    mask, cells = segment(image)
    assert cells == 1
    assert iou(mask != BACKGROUND, truth > 0) > 0.75


def test_choosing_prefers_area_at_equal_distance_and_ignores_specks() -> None:
    labels = np.zeros((100, 100), np.int32)
    labels[45:55, 10:20] = 1
    labels[40:60, 75:95] = 2
    labels[50, 50] = 3
    assert choose_primary(labels, 20, 0.35) == (2, 2)
    assert choose_primary(np.zeros((10, 10), np.int32), 1, 0.35) == (0, 0)


def test_density_of_glass_is_zero_and_grows_with_darkness() -> None:
    ramp = np.repeat(np.linspace(255, 5, 100).astype(np.uint8)[None, :, None], 3, axis=2).repeat(40, axis=0)
    density = optical_density(ramp)[20, :, 0]
    assert density[0] == 0 and (np.diff(density) >= 0).all()


def test_nuclei_are_stained_red_cells_are_not() -> None:
    image = field(240)
    add_cell(image, 120, 120, 45)
    stain = nuclear_stain(image)
    red = (image == np.array((225, 165, 165))).all(axis=2)
    assert stain[120, 120] > 4 * np.median(stain[red])


@pytest.mark.parametrize(("name", "least"), [("bcisc", 0.78), ("zheng", 0.80)])
def test_experts_agree_with_the_outline(real_data: Path, name: str, least: float) -> None:
    folder = real_data / "masks"
    rows = pd.read_csv(folder / "masks.csv")
    rows = rows[rows["set"] == name].iloc[::9]
    found = []
    for row in rows.itertuples():
        image = cv2.cvtColor(cv2.imread(str(folder / str(row.image))), cv2.COLOR_BGR2RGB)
        truth = cv2.imread(str(folder / str(row.mask)), cv2.IMREAD_GRAYSCALE) >= 100
        found.append(iou(segment(np.asarray(image, np.uint8))[0] != BACKGROUND, truth))
    assert np.median(found) > least
