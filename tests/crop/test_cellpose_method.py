"""The Cellpose method with a network that knows the truth: sizes, tiles, batches, the choice of the cell, refusals."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from buffycoat.core.errors import InputError
from buffycoat.crop import cellpose_method
from buffycoat.crop.cellpose_method import (
    CELLPOSE_PX,
    CELLPOSE_TILES,
    Cellpose,
    enlarged,
    mask_workers,
    normalised,
    primary_of,
    reduced,
    segment_by_cellpose,
    start_masks,
    tiles_of,
)
from buffycoat.crop.settings import CropCells
from buffycoat.crop.stain import Bools, nucleus_map
from buffycoat.data.images import BACKGROUND, CYTOPLASM, NUCLEUS, Pixels
from tests.crop.cellpose_stubs import (
    ByColour,
    Labels,
    Stub,
    TrueFlows,
    cellpose_itself,
    drawn_labels,
    in_threads,
    same_cells,
)
from tests.crop.drawing import add_cell, field, iou


def by_stain(images: list[Pixels]) -> list[Bools]:
    return [nucleus_map(image) for image in images]


def given(*maps: Bools) -> Callable[[list[Pixels]], list[Bools]]:
    return lambda images: list(maps)


def found(model: Cellpose, images: list[Pixels], side_px: int = 512) -> list[Labels]:
    return [labels.result() for labels in start_masks(model, images, side_px)]


@pytest.mark.parametrize(
    ("height", "width", "tiles"),
    [(140, 200, 1), (240, 240, 1), (241, 200, 2), (256, 256, 4), (160, 300, 2), (330, 400, 4), (245, 512, 6)],
)
def test_drawn_cells_come_back_exactly_through_padding_and_tiles(height: int, width: int, tiles: int) -> None:
    network = TrueFlows()
    labels = drawn_labels(height, width, seed=height, cells=5)
    (masks,) = found(in_threads(network), [network.draw(labels)])
    assert same_cells(masks, labels)
    assert network.batches == [tiles] and tiles_of(height, width) == tiles


def test_the_masks_are_those_of_cellposes_own_eval() -> None:
    network = TrueFlows()
    images = [network.draw(drawn_labels(180, 220, seed, 6), wrong=(2, 5)) for seed in range(3)]
    ours = np.stack(found(in_threads(network), images))
    itself = cellpose_itself(network)
    one_by_one = [itself.eval(image, channel_axis=-1, max_size_fraction=1.0)[0] for image in images]
    as_one_array = itself.eval(np.stack(images), channel_axis=-1, z_axis=None, max_size_fraction=1.0)[0]
    np.testing.assert_array_equal(ours, np.stack(one_by_one))
    np.testing.assert_array_equal(ours, as_one_array)
    assert [masks.max() for masks in ours] == [4, 4, 4], "cells whose flows are wrong are dropped, the others kept"


def test_images_of_one_reduced_size_go_together_and_come_back_in_order() -> None:
    network = TrueFlows()
    truths = [drawn_labels(*size, seed=k, cells=4) for k, size in enumerate([(130, 150), (150, 130)] * 4)]
    images = [network.draw(labels) for labels in truths]
    together = found(in_threads(network, tiles=3), images)
    assert network.batches == [3, 1, 3, 1]
    for masks, labels in zip(together, truths, strict=True):
        assert same_cells(masks, labels)
    alone = [found(in_threads(network), [image])[0] for image in images]
    for masks, single in zip(together, alone, strict=True):
        np.testing.assert_array_equal(masks, single)


def test_an_image_of_several_tiles_fits_in_a_batch_of_fewer() -> None:
    network = TrueFlows()
    labels = drawn_labels(300, 310, seed=4, cells=5)
    assert same_cells(found(in_threads(network, tiles=3), [network.draw(labels)])[0], labels)
    assert network.batches == [3, 1]


def test_a_cell_over_most_of_the_frame_survives() -> None:
    network = TrueFlows()
    rows, cols = np.indices((200, 200))
    labels = (np.hypot(rows - 100, cols - 95) < 88).astype(np.int32)
    image = network.draw(labels)
    assert (labels > 0).mean() > 0.4
    assert cellpose_itself(network).eval(image)[0].max() == 0, "by default Cellpose loses it"
    np.testing.assert_array_equal(found(in_threads(network), [image])[0], labels)


def test_reduction_is_exact_and_costs_the_outline_little() -> None:
    network = TrueFlows()
    labels = drawn_labels(200, 240, seed=11, cells=4, radii=(18, 40))
    image = network.draw(labels).repeat(2, axis=0).repeat(2, axis=1)
    (masks,) = found(in_threads(network), [image], side_px=CELLPOSE_PX)
    assert same_cells(masks, labels)
    nucleus = (labels == 1).repeat(2, axis=0).repeat(2, axis=1)
    ((mask, cells),) = segment_by_cellpose(in_threads(network), [image], given(nucleus))
    assert mask.shape == image.shape[:2] and cells == 1
    assert iou(mask != BACKGROUND, nucleus) > 0.97


def test_the_default_reduction_is_one_tile_and_a_pixel_more_is_not() -> None:
    assert (tiles_of(CELLPOSE_PX, CELLPOSE_PX), tiles_of(CELLPOSE_PX + 1, CELLPOSE_PX)) == (1, 2)


def test_small_images_are_not_enlarged() -> None:
    small, large = np.zeros((90, 60, 3), np.uint8), np.zeros((300, 600, 3), np.uint8)
    assert reduced(small, 256).shape == (90, 60, 3)
    assert reduced(large, 256).shape == (128, 256, 3)
    assert reduced(np.zeros((2000, 2, 3), np.uint8), 256).shape == (256, 1, 3)


def test_an_enlarged_outline_is_nearer_the_truth_than_whole_reduced_pixels() -> None:
    rows, cols = np.indices((360, 360))
    truth = np.hypot(rows - 171.3, cols - 184.6) < 96
    small = reduced(np.repeat(truth[..., None] * np.uint8(255), 3, axis=2), 128)[..., 0] >= 128
    smooth = enlarged(small, truth.shape)
    index = ((np.arange(360) + 0.5) * 128 / 360).astype(int)
    assert iou(smooth, truth) > iou(small[index[:, None], index], truth) > 0.95
    np.testing.assert_array_equal(enlarged(small, small.shape), small)


def test_a_channel_without_contrast_counts_nothing() -> None:
    image = np.full((20, 30, 3), 255, np.uint8)
    image[..., 1] = np.arange(30)
    shown = normalised(image)
    assert (shown[..., [0, 2]] == 0).all() and np.ptp(shown[..., 1]) == 1
    assert (normalised(np.full((9, 9, 3), 255, np.uint8)) == 0).all()
    assert image.max() == 255, "the image itself is left alone"


def test_out_of_memory_halves_the_batch_for_good_and_one_tile_too_many_is_an_error() -> None:
    network = TrueFlows(fail_above=2)
    truths = [drawn_labels(120, 130, seed, 3) for seed in range(9)]
    model = in_threads(network, tiles=8)
    for masks, labels in zip(found(model, [network.draw(labels) for labels in truths]), truths, strict=True):
        assert same_cells(masks, labels)
    assert network.batches == [8, 4, 2, 2, 2, 2, 1] and model.tiles == 2
    with pytest.raises(InputError, match="does not hold Cellpose and one tile"):
        found(in_threads(Stub(fail_above=0), tiles=4), [np.zeros((40, 40, 3), np.uint8)])


def test_answers_that_are_no_numbers_are_an_error() -> None:
    class Broken(Stub):
        def answer(self, tile: np.ndarray) -> np.ndarray:
            return np.full((3, 256, 256), np.nan, np.float32)

    with pytest.raises(InputError, match="something else than flows"):
        found(in_threads(Broken()), [np.zeros((40, 40, 3), np.uint8)])


def three_cells() -> tuple[Labels, list[Bools]]:
    labels = np.zeros((150, 150), np.int32)
    labels[20:60, 20:60], labels[60:105, 60:105], labels[110:140, 20:50] = 1, 2, 3
    inner = [np.zeros((150, 150), bool) for _ in range(3)]
    inner[0][25:55, 25:55], inner[1][70:95, 70:95], inner[2][115:135, 25:45] = True, True, True
    return labels, inner


def test_the_primary_cell_holds_stain_and_is_central() -> None:
    labels, (corner, centre, low) = three_cells()
    cell, cells = primary_of(labels, corner | centre)
    assert cells == 2 and (cell == (labels == 2)).all(), "less stain, but in the middle"
    cell, cells = primary_of(labels, corner | low)
    assert cells == 2 and (cell == (labels == 1)).all(), "more stain"
    cell, cells = primary_of(labels, np.zeros((150, 150), bool))
    assert cells == 0 and not cell.any()
    cell, cells = primary_of(labels, corner | low, 0.03)
    assert cells == 1 and (cell == (labels == 1)).all(), "too little stain is no nucleus"


def test_stain_is_looked_up_in_the_image_and_cells_in_its_reduction() -> None:
    labels, (_, centre, _) = three_cells()
    cell, cells = primary_of(labels, centre.repeat(2, axis=0).repeat(2, axis=1))
    assert cells == 1 and cell.shape == (300, 300)
    assert iou(cell, (labels == 2).repeat(2, axis=0).repeat(2, axis=1)) > 0.97


def test_the_nucleus_is_the_map_within_the_cell_or_what_the_finish_says() -> None:
    network = TrueFlows()
    truths = [drawn_labels(140, 140, seed, 3) for seed in range(2)]
    images = [network.draw(labels) for labels in truths]
    maps = [(labels == 1) | (labels == 0) & (np.arange(140) < 20) for labels in truths]
    plain = list(segment_by_cellpose(in_threads(network), images, given(*maps)))
    for (mask, cells), labels in zip(plain, truths, strict=True):
        assert cells == 1 and ((mask == NUCLEUS) == (labels == 1)).all() and not (mask == CYTOPLASM).any()

    def left_half(shown: list[Pixels], chosen: list[Bools]) -> list[Bools]:
        assert all(image is known for image, known in zip(shown, images, strict=True))
        assert all((cell == (labels == 1)).all() for cell, labels in zip(chosen, truths, strict=True))
        return [np.indices(cell.shape)[1] < np.nonzero(cell)[1].mean() for cell in chosen]

    for (mask, _), labels in zip(
        segment_by_cellpose(in_threads(network), images, given(*maps), left_half), truths, strict=True
    ):
        half = np.indices(labels.shape)[1] < np.nonzero(labels == 1)[1].mean()
        assert ((mask == NUCLEUS) == (half & (labels == 1))).all()
        assert ((mask != BACKGROUND) == (labels == 1)).all()


def test_the_white_cell_is_chosen_among_red_ones() -> None:
    images, truths = [], []
    for k, side in enumerate([200, 240, 330]):
        image = field(side, red_cells=0 if k else 9)
        truths.append(add_cell(image, side / 2, side / 2 + 3 * k, side // 5 + k))
        images.append(image)
    answers = list(segment_by_cellpose(in_threads(ByColour()), images, by_stain))
    for (mask, cells), truth in zip(answers, truths, strict=True):
        assert cells == 1 and mask.shape == truth.shape
        assert iou(mask != BACKGROUND, truth > 0) > 0.9
        assert 0.2 < (mask == NUCLEUS).sum() / (mask != BACKGROUND).sum() < 0.6


def test_a_field_without_a_white_cell_has_none() -> None:
    ((mask, cells),) = segment_by_cellpose(in_threads(ByColour()), [field(240, red_cells=9)], by_stain)
    assert cells == 0 and (mask == BACKGROUND).all()


def test_the_network_is_done_before_the_first_answer_is_asked_for() -> None:
    network = TrueFlows()
    labels = drawn_labels(100, 100, 0, 2)
    answers = segment_by_cellpose(in_threads(network), [network.draw(labels)], given(labels == 1))
    assert network.batches == [1]
    assert len(list(answers)) == 1


def test_a_killed_process_is_an_error_that_says_so() -> None:
    with ThreadPoolExecutor(1) as threads, mask_workers(1) as workers:
        model = Cellpose(ByColour(), 8, threads, workers)
        workers.submit(os._exit, 1).exception()
        with pytest.raises(InputError, match="was killed, as happens when memory runs out"):
            list(segment_by_cellpose(model, [field(100)], by_stain))


def test_the_model_is_loaded_from_checked_weights_onto_the_jobs_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def load(*given: object) -> str:
        asked.append(given)
        return "network"

    monkeypatch.setattr(cellpose_method, "pick_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(cellpose_method, "load_network", load)
    (tmp_path / "cpsam").write_bytes(b"weights")
    settings = CropCells(method="cellpose", weights=str(tmp_path / "cpsam"))
    with ThreadPoolExecutor(1) as threads:
        model = cellpose_method.load_model(settings, threads, 1)
        assert (model.network, model.tiles, model.threads) == ("network", CELLPOSE_TILES, threads)
        assert asked == [(tmp_path / "cpsam", torch.device("cpu"))]
        with pytest.raises(InputError, match="not set"):
            cellpose_method.load_model(CropCells(method="cellpose"), threads, 1)
