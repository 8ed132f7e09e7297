"""The two passes around the network, with a network whose maps are exact; and the shipped network on drawn cells."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from buffycoat.crop.embedded_method import (
    CLOSE_UP,
    Frame,
    all_cells,
    fine_nuclei,
    frame_around,
    onto,
    rough_nuclei,
    segment_by_network,
    view_of,
    view_of_map,
    whole_frame,
)
from buffycoat.crop.segmenter import SIDE_PX, load_network
from buffycoat.data.images import BACKGROUND, NUCLEUS, decode_image
from buffycoat.data.random import stream
from buffycoat.simulate.painting import draw_field, draw_slide
from tests.crop.drawing import add_cell, field, iou
from tests.crop.stub_segmenter import InkNetwork

SHARE, CENTRALITY = 0.004, 0.35


def primary(network: object, image: np.ndarray) -> tuple[np.ndarray, int]:
    return segment_by_network(network, [image], SHARE, CENTRALITY)[0]


@pytest.mark.parametrize(("height", "width"), [(128, 128), (240, 320), (90, 60), (700, 500)])
def test_a_map_of_the_whole_frame_returns_to_the_image_pixels(height: int, width: int) -> None:
    image = np.full((height, width, 3), 240, np.uint8)
    cv2.circle(image, (int(0.6 * width), int(0.4 * height)), int(0.2 * min(height, width)), (0, 0, 0), -1)
    frame = whole_frame(height, width)
    view = view_of(image, frame)
    assert view.shape == (SIDE_PX, SIDE_PX, 3)
    back = onto((view[..., 0] < 120).astype(np.float32), frame, height, width) > 0.5
    assert iou(back, image[..., 0] < 120) > 0.9


def test_outside_the_image_its_border_goes_on() -> None:
    image = np.full((50, 50, 3), 77, np.uint8)
    assert (view_of(image, Frame(-30, -30, 110)) == 77).all()


def test_a_frame_beyond_the_image_maps_back_to_what_lies_inside() -> None:
    region = np.zeros((60, 60), bool)
    region[0:20, 40:60] = True
    frame = frame_around(region)
    assert frame.top < 0 and frame.side == CLOSE_UP * 20
    seen = view_of_map(region.astype(np.float32), frame)
    assert iou(onto(seen, frame, 60, 60) > 0.5, region) > 0.85


@pytest.mark.parametrize("side", [120, 240, 368, 600])
@pytest.mark.parametrize("share", [0.08, 0.2, 0.42])
def test_a_cell_of_any_size_is_outlined_to_the_pixel(side: int, share: float) -> None:
    image = field(side, red_cells=5)
    truth = add_cell(image, side * 0.48, side * 0.52, int(share * side))
    mask, cells = primary(InkNetwork(), image)
    # Half a pixel all around a cell of 18 pixels is a tenth of its area.
    assert cells == 1 and iou(mask != BACKGROUND, truth > 0) > (0.9 if share * side > 15 else 0.8)
    nucleus = np.zeros_like(truth)
    cv2.circle(nucleus, (int(side * 0.52), int(side * 0.48)), int(int(share * side) * 0.6), 1, -1)
    assert iou(mask == NUCLEUS, nucleus > 0) > 0.8


def test_every_close_up_shows_its_cell_at_the_same_size() -> None:
    extents = []
    for radius in (20, 50, 90):
        network = InkNetwork()
        image = field(240, red_cells=0)
        add_cell(image, 120, 120, radius)
        primary(network, image)
        closest = network.views[1]
        extents.append(int((closest[2] - closest[1] > 0.06).any(dim=0).sum()))
    assert max(extents) - min(extents) <= 5 and abs(np.mean(extents) - SIDE_PX / CLOSE_UP) < 5


def test_stain_comes_first_and_then_centrality() -> None:
    image = field(240, red_cells=4)
    central = add_cell(image, 115, 125, 30)
    add_cell(image, 40, 40, 32)
    mask, cells = primary(InkNetwork(), image)
    assert cells == 2 and iou(mask != BACKGROUND, central > 0) > 0.9
    # A speck of stain in the middle does not beat a whole cell beside it.
    image = field(240, red_cells=4)
    add_cell(image, 120, 120, 9)
    whole = add_cell(image, 80, 80, 34)
    mask, _ = primary(InkNetwork(), image)
    assert iou(mask != BACKGROUND, whole > 0) > 0.9


def test_touching_cells_are_parted_and_one_is_kept() -> None:
    image = field(240, red_cells=0)
    own = add_cell(image, 120, 112, 34)
    add_cell(image, 120, 179, 32)
    mask, cells = primary(InkNetwork(), image)
    assert cells == 2 and iou(mask != BACKGROUND, own > 0) > 0.9
    assert len(all_cells(InkNetwork(), image, SHARE)) == 2


def test_a_cell_cut_by_the_long_edge_of_a_wide_image_does_not_grow_into_the_padding() -> None:
    image = field(400, red_cells=0)[100:300].copy()
    central = add_cell(image, 100, 235, 26)
    add_cell(image, 0, 130, 34)
    mask, cells = primary(InkNetwork(), image)
    assert cells == 2 and iou(mask != BACKGROUND, central > 0) > 0.9


def test_a_cell_at_the_border_is_found_where_it_is() -> None:
    image = field(240, red_cells=0)
    truth = add_cell(image, 8, 120, 40)
    mask, cells = primary(InkNetwork(), image)
    assert cells == 1 and iou(mask != BACKGROUND, truth > 0) > 0.85
    assert (mask[0] != BACKGROUND).any()


def test_no_cell_gives_an_empty_mask_and_none() -> None:
    mask, cells = primary(InkNetwork(), field(240, red_cells=9))
    assert cells == 0 and (mask == BACKGROUND).all()
    assert all_cells(InkNetwork(), field(200), SHARE) == []


def test_small_cells_in_a_large_field_are_searched_for_more_finely(shipped: object) -> None:
    image, truth = drawn("SNE", 1)
    small = cv2.resize(image, (120, 120), interpolation=cv2.INTER_AREA)
    large = np.full((900, 900, 3), np.percentile(image, 98, axis=(0, 1)), np.uint8)
    large[500:620, 300:420] = small
    mask, cells = segment_by_network(shipped, [large], 0.001, CENTRALITY)[0]
    expected = np.zeros((900, 900), np.uint8)
    expected[500:620, 300:420] = cv2.resize(truth, (120, 120), interpolation=cv2.INTER_NEAREST)
    assert cells == 1 and iou(mask != BACKGROUND, expected != BACKGROUND) > 0.8


def test_answers_come_in_order_whatever_the_sizes() -> None:
    images, truths = [], []
    for k, side in enumerate([120, 300, 200]):
        images.append(field(side, red_cells=0))
        truths.append(add_cell(images[-1], side / 2 + k, side / 2, 30 + k))
    images.insert(1, field(150, red_cells=3))
    found = segment_by_network(InkNetwork(), images, SHARE, CENTRALITY)
    assert found[1][1] == 0
    for (mask, _), truth in zip([found[0], found[2], found[3]], truths, strict=True):
        assert mask.shape == truth.shape and iou(mask != BACKGROUND, truth > 0) > 0.9


def test_nuclei_for_cells_that_another_method_found() -> None:
    image = field(240, red_cells=3)
    cell = add_cell(image, 100, 130, 40) > 0
    add_cell(image, 200, 40, 25)
    (rough,), (fine,) = rough_nuclei(InkNetwork(), [image]), fine_nuclei(InkNetwork(), [image], [cell])
    truth = np.zeros((240, 240), np.uint8)
    cv2.circle(truth, (130, 100), 24, 1, -1)
    assert rough[200, 40] and rough[100, 130]
    assert not (fine & ~cell).any() and iou(fine, truth > 0) > 0.85


@pytest.fixture(scope="module")
def shipped() -> object:
    return load_network()


def drawn(label: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    return draw_field(label, draw_slide(stream(99, "slide", number)), stream(99, "field", number))


def test_the_shipped_network_outlines_drawn_cells_and_their_nuclei(shipped: object) -> None:
    found = []
    for number, label in enumerate(["SNE", "LY", "MO", "EO", "BL", "PC", "PLY", "BNE"]):
        image, truth = drawn(label, number)
        mask, _ = primary(shipped, image)
        found.append((iou(mask != BACKGROUND, truth != BACKGROUND), iou(mask == NUCLEUS, truth == NUCLEUS)))
    cell, nucleus = np.median(found, axis=0)
    assert cell > 0.9 and nucleus > 0.85, found


@pytest.mark.parametrize("scale", [0.35, 0.6, 1.8])
def test_magnification_does_not_matter_to_the_shipped_network(shipped: object, scale: float) -> None:
    image, truth = drawn("MO", 3)
    size = (round(368 * scale), round(368 * scale))
    mask, _ = primary(shipped, cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR))
    expected = cv2.resize(truth, size, interpolation=cv2.INTER_NEAREST)
    assert iou(mask != BACKGROUND, expected != BACKGROUND) > 0.88


def test_light_and_dye_do_not_matter_to_the_shipped_network(shipped: object) -> None:
    image, truth = drawn("LY", 5)
    for gains in ((0.7, 0.7, 0.7), (1.0, 0.92, 0.6), (0.8, 1.0, 1.0)):
        mask, _ = primary(shipped, np.rint(image * np.array(gains)).astype(np.uint8))
        assert iou(mask != BACKGROUND, truth != BACKGROUND) > 0.88
    swapped, _ = primary(shipped, np.ascontiguousarray(image[..., ::-1]))
    assert iou(swapped != BACKGROUND, truth != BACKGROUND) > 0.75


def test_the_shipped_network_sees_nothing_in_an_empty_field(shipped: object) -> None:
    for image in (np.full((200, 200, 3), 240, np.uint8), np.zeros((64, 64, 3), np.uint8), field(300, red_cells=10)):
        mask, cells = primary(shipped, image)
        assert cells == 0 and (mask == BACKGROUND).all()


def test_a_tiny_image_is_no_trouble(shipped: object) -> None:
    mask, _ = primary(shipped, np.full((9, 5, 3), 200, np.uint8))
    assert mask.shape == (9, 5)


def test_real_cells_are_found(shipped: object, real_data: Path) -> None:
    files = sorted(file for file in (real_data / "masks" / "bcisc").glob("*.jpg"))[::40]
    assert files and all((primary(shipped, decode_image(file))[0] == NUCLEUS).any() for file in files)
