from __future__ import annotations

import cv2
import numpy as np

from buffycoat.crop.framing import CORE_DEPTH, core_of, fill_holes, separate_cells


def disc(side: int, row: int, col: int, radius: int) -> np.ndarray:
    canvas = np.zeros((side, side), np.uint8)
    cv2.circle(canvas, (col, row), radius, 1, -1)
    return canvas.astype(bool)


def maps_of(cells: list[np.ndarray], nuclei: list[np.ndarray]) -> np.ndarray:
    """The maps that a perfect network would give."""
    labels = np.zeros(cells[0].shape, np.int32)
    for label, cell in enumerate(cells, 1):
        labels[cell & (labels == 0)] = label
    nucleus = np.any(nuclei, axis=0) if nuclei else np.zeros(labels.shape, bool)
    return np.stack([labels > 0, nucleus, core_of(labels)]).astype(np.float32)


def test_the_core_of_a_disc_is_the_disc_of_the_stated_depth() -> None:
    core = core_of(disc(101, 50, 50, 40).astype(np.int32))
    assert abs(np.sqrt(core.sum() / np.pi) - (1 - CORE_DEPTH) * 40) < 1.5


def test_touching_cells_are_told_apart_by_their_cores() -> None:
    left, right = disc(120, 60, 38, 24), disc(120, 60, 82, 24)
    assert (cv2.dilate(left.astype(np.uint8), np.ones((3, 3))).astype(bool) & right).any()
    labels = separate_cells(maps_of([left, right], [disc(120, 60, 38, 12), disc(120, 60, 82, 12)]), 20)
    assert len(np.unique(labels)) == 3
    for cell in (left, right):
        label = np.bincount(labels[cell]).argmax()
        assert label and ((labels == label) & cell).sum() / ((labels == label) | cell).sum() > 0.95


def test_a_cell_cut_by_the_frame_keeps_a_core_at_the_border() -> None:
    half = disc(100, 50, 0, 30)
    assert core_of(half.astype(np.int32))[50, 0]


def test_regions_without_a_nucleus_or_too_small_are_no_cells() -> None:
    red, white = disc(100, 30, 30, 15), disc(100, 70, 70, 15)
    maps = maps_of([red, white], [disc(100, 70, 70, 8)])
    labels = separate_cells(maps, 20)
    assert not labels[red].any() and labels[white].any()
    assert not separate_cells(maps, 2000).any()


def test_a_cell_without_a_core_is_still_a_cell() -> None:
    maps = maps_of([disc(100, 50, 50, 20)], [disc(100, 50, 50, 10)])
    maps[2] = 0
    assert len(np.unique(separate_cells(maps, 20))) == 2


def test_an_empty_map_gives_no_cell() -> None:
    assert not separate_cells(np.zeros((3, 32, 32), np.float32), 1).any()


def test_fill_holes_keeps_the_largest_part_and_fills_it() -> None:
    ring = disc(80, 40, 40, 30) & ~disc(80, 40, 40, 10)
    filled = fill_holes(ring | disc(80, 4, 4, 3))
    assert (filled == disc(80, 40, 40, 30)).all()
    assert not fill_holes(np.zeros((5, 5), bool)).any()
    one = np.zeros((5, 5), bool)
    one[2, 2] = True
    assert (fill_holes(one) == one).all()
