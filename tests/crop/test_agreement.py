from __future__ import annotations

import math

import numpy as np

from buffycoat.crop.segmenter_samples import masked_image
from buffycoat.crop.segmenter_training import Agreement, each_cell, intersection_over_union, nearest_cell, summarise


def two_cells(nuclei: bool = True) -> tuple[object, np.ndarray]:
    levels = np.zeros((40, 80), np.uint8)
    levels[10:30, 10:30], levels[10:30, 50:70] = 128, 128
    levels[15:25, 15:25], levels[15:25, 55:65] = 255, 255
    return masked_image("x", np.zeros((40, 80, 3), np.uint8), levels, nuclei), levels


def mask_of(levels: np.ndarray) -> np.ndarray:
    return np.where(levels == 255, 2, np.where(levels == 128, 1, 0)).astype(np.uint8)


def test_intersection_over_union_by_hand() -> None:
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    a[:2], b[1:3] = True, True
    assert intersection_over_union(a, b) == 4 / 12
    assert intersection_over_union(a, ~a) == 0 and intersection_over_union(a & ~a, a & ~a) == 1


def test_the_cell_that_the_mask_meets_is_the_one_it_is_judged_by() -> None:
    image, levels = two_cells()
    right = mask_of(levels)
    right[:, :40] = 0
    assert nearest_cell(right, image) == Agreement(1.0, 1.0)
    shifted = np.roll(right, 5, axis=1)
    found = nearest_cell(shifted, image)
    assert found.cell_iou == 300 / 500 and found.nucleus_iou == 50 / 150
    assert nearest_cell(np.zeros_like(right), image) == Agreement(0.0, 0.0)


def test_nuclei_that_nobody_drew_are_not_judged() -> None:
    image, levels = two_cells(nuclei=False)
    assert math.isnan(nearest_cell(mask_of(levels), image).nucleus_iou)


def test_every_labelled_cell_counts_in_a_field() -> None:
    image, levels = two_cells()
    left = mask_of(levels)
    left[:, 40:] = 0
    assert each_cell([left], image) == [Agreement(1.0, 1.0), Agreement(0.0, 0.0)]
    assert each_cell([], image) == [Agreement(0.0, 0.0)] * 2


def test_the_summary_counts_what_was_missed() -> None:
    found = [Agreement(0.9, float("nan")), Agreement(0.8, 0.7), Agreement(0.0, 0.0), Agreement(1.0, 0.9)]
    summary = summarise(found)
    assert summary.cells == 4 and summary.missed == 0.25
    assert summary.cell_iou_median == np.median([0.9, 0.8, 0, 1]) and summary.nucleus_iou_median == 0.7
    assert summarise([Agreement(0.9, float("nan"))]).nucleus_iou_median is None
