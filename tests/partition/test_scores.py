from __future__ import annotations

from dataclasses import astuple

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from buffycoat.data.degradations import DEGRADATIONS, blur
from buffycoat.data.images import BACKGROUND, CYTOPLASM, Pixels, grey_of, mean_residual, noise_score
from buffycoat.partition.scores import Scores, blur_score, measure, percentile, smoothed
from buffycoat.simulate.painting import draw_field, draw_slide
from tests.partition.drawing import cell

LIMITS = {
    "noise_score": (0, 255),
    "surroundings_noise": (0, 255),
    "blur_score": (0, 1),
    "background_level": (0, 255),
    "background_gradient": (0, 510 * np.sqrt(2)),
    "background_red": (-255, 255),
    "background_blue": (-255, 255),
}


def slow_residual(grey: Pixels, region: np.ndarray) -> float:
    padded = np.pad(grey.astype(int), 1, mode="edge")
    places = [(row, col) for row, col in np.argwhere(region)]
    return float(np.mean([abs(int(grey[r, c]) - np.median(padded[r : r + 3, c : c + 3])) for r, c in places]))


def within_limits(scores: Scores) -> bool:
    return all(low <= getattr(scores, name) <= high for name, (low, high) in LIMITS.items())


def on_ground(level: np.ndarray | float, side: int = 64) -> tuple[Pixels, Pixels]:
    """A dark disc on a ground of the given grey levels (broadcast to the crop)."""
    mask = cell(0, side)[1]
    ground = np.broadcast_to(np.asarray(level, float), (side, side)).copy()
    ground[mask == CYTOPLASM] = 90
    return np.repeat(np.clip(ground, 0, 255).astype(np.uint8)[..., None], 3, axis=2), mask


def test_noise_is_its_definition_inside_and_outside_the_cell() -> None:
    for seed in range(3):
        crop, mask = cell(seed, 32)
        scores = measure(crop, mask)
        assert scores.noise_score == pytest.approx(slow_residual(grey_of(crop), mask != BACKGROUND), abs=1e-9)
        assert scores.surroundings_noise == pytest.approx(slow_residual(grey_of(crop), mask == BACKGROUND), abs=1e-9)
        assert scores.noise_score == noise_score(crop, mask)


def test_noise_of_one_region_does_not_count_in_the_other() -> None:
    crop, mask = cell(0)
    worse = crop.copy()
    far = cv2.dilate((mask != BACKGROUND).astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
    worse[far] = np.random.default_rng(0).integers(0, 256, (int(far.sum()), 3))
    assert measure(worse, mask).noise_score == measure(crop, mask).noise_score
    assert measure(worse, mask).surroundings_noise > 10 + measure(crop, mask).surroundings_noise


def test_noise_does_not_depend_on_the_grey_level() -> None:
    grey = np.random.default_rng(0).integers(40, 160, (32, 32)).astype(np.uint8)
    region = np.ones((32, 32), np.uint8)
    lifted = (grey + 60).astype(np.uint8)
    assert mean_residual(lifted, smoothed(lifted), region) == mean_residual(grey, smoothed(grey), region)


@pytest.mark.parametrize("side", [1, 2, 3, 16, 33])
@pytest.mark.parametrize("kind", ["empty", "full", "one pixel", "corner"])
def test_any_size_and_mask_gives_scores_within_limits(side: int, kind: str) -> None:
    rng = np.random.default_rng(side)
    mask = np.full((side, side), CYTOPLASM if kind == "full" else BACKGROUND, np.uint8)
    if kind == "one pixel":
        mask[side // 2, side // 2] = CYTOPLASM
    if kind == "corner":
        mask[: side // 2 + 1, : side // 2 + 1] = CYTOPLASM
    for crop in (
        rng.integers(0, 256, (side, side, 3)).astype(np.uint8),
        np.zeros((side, side, 3), np.uint8),
        np.full((side, side, 3), 255, np.uint8),
        np.indices((side, side)).sum(axis=0)[..., None].repeat(3, axis=2).astype(np.uint8) % 2 * np.uint8(255),
    ):
        scores = measure(crop, mask)
        assert within_limits(scores) and all(np.isfinite(astuple(scores)))


def test_a_flat_crop_has_no_noise_an_even_light_and_is_blurred() -> None:
    flat = np.full((32, 32, 3), (97, 77, 57), np.uint8)
    for mask in (np.full((32, 32), CYTOPLASM, np.uint8), np.zeros((32, 32), np.uint8)):
        assert astuple(measure(flat, mask)) == (0, 0, 1, int(grey_of(flat)[0, 0]), 0, 20, -20)


def test_an_empty_region_is_replaced_by_the_whole_crop() -> None:
    crop, _ = cell(0)
    whole = mean_residual(grey_of(crop), smoothed(grey_of(crop)), np.ones((64, 64), np.uint8))
    for mask in (np.full((64, 64), CYTOPLASM, np.uint8), np.zeros((64, 64), np.uint8)):
        scores = measure(crop, mask)
        assert scores.noise_score == pytest.approx(whole) and scores.surroundings_noise == pytest.approx(whole)


def test_the_blur_score_grows_with_blur() -> None:
    for seed in range(3):
        crop, mask = cell(seed, 128)
        scores = [
            measure(blur(crop, s, np.random.default_rng(0)) if s else crop, mask).blur_score for s in (0, 1, 2, 3, 4)
        ]
        assert (np.diff(scores) > 0).all()


def test_the_blur_score_of_an_edge_and_of_a_ramp() -> None:
    edge = np.zeros((64, 64), np.uint8)
    edge[:, 32:] = 200
    assert blur_score(edge) == 0, "the whole contrast in one step"
    # 200 levels over 50 steps: each takes a fiftieth of the whole contrast.
    ramp = np.repeat(np.clip(4 * (np.arange(64) - 7), 0, 200)[None].astype(np.uint8), 64, axis=0)
    assert blur_score(ramp) == pytest.approx(1 - 4 / 200, abs=0.01)


def test_the_blur_score_depends_neither_on_brightness_nor_on_contrast() -> None:
    smooth = smoothed(grey_of(cell(0, 128)[0]))
    assert blur_score((smooth // 2 * 2).astype(np.uint8)) == pytest.approx(blur_score(smooth // 2), abs=0.03)
    assert blur_score(np.clip(smooth, 0, 215) + np.uint8(40)) == pytest.approx(blur_score(np.clip(smooth, 0, 215)))


def test_scores_do_not_depend_on_orientation() -> None:
    field, mask = draw_field("SNE", draw_slide(np.random.default_rng(3)), np.random.default_rng(4))
    part = (slice(72, 296), slice(72, 296))
    for crop, m in (cell(1), (field[part], mask[part])):
        scores = measure(crop, m)
        for turned, turned_mask in ((np.rot90(crop), np.rot90(m)), (crop[:, ::-1], m[:, ::-1])):
            again = measure(np.ascontiguousarray(turned), np.ascontiguousarray(turned_mask))
            assert again.noise_score == pytest.approx(scores.noise_score)
            assert again.surroundings_noise == pytest.approx(scores.surroundings_noise)
            assert again.blur_score == pytest.approx(scores.blur_score, abs=0.02)
            assert again.background_level == pytest.approx(scores.background_level, abs=2)
            assert again.background_gradient == pytest.approx(scores.background_gradient, abs=6)


@pytest.mark.parametrize("level", [120, 200, 255])
def test_the_background_is_that_of_clear_glass_between_red_cells(level: int) -> None:
    crop, mask = on_ground(level)
    assert measure(crop, mask).background_level == level
    crop[:40] = np.where(mask[:40, :, None] == BACKGROUND, level - 50, crop[:40])
    assert measure(crop, mask).background_level == level, "red cells over more than half"
    assert measure(crop, mask).background_gradient > 20, "a whole side without glass is taken for a shadow"


@pytest.mark.parametrize(("rows", "cols"), [(60, 0), (0, -60), (30, 40)])
def test_the_gradient_is_the_change_across_the_crop(rows: int, cols: int) -> None:
    y, x = np.mgrid[-0.5:0.5:64j, -0.5:0.5:64j]
    gradient = measure(*on_ground(180 + rows * y + cols * x)).background_gradient
    assert gradient == pytest.approx(np.hypot(rows, cols), rel=0.25)
    assert measure(*on_ground(180)).background_gradient == 0


def test_the_tint_is_that_of_the_glass() -> None:
    crop, mask = on_ground(200)
    tinted = np.clip(crop.astype(int) + np.array([10, 0, -20]), 0, 255).astype(np.uint8)
    scores = measure(tinted, mask)
    assert (scores.background_red, scores.background_blue) == (10, -20)
    tinted[mask == CYTOPLASM] = (0, 0, 250)
    assert measure(tinted, mask).background_blue == -20, "the cell's colour does not count"


def test_the_percentile_is_the_usual_one_to_within_a_level() -> None:
    for seed in range(5):
        values = (
            (np.random.default_rng(seed).normal(100, 30, (40, 41)) * (seed % 3 + 0.2)).clip(0, 255).astype(np.uint8)
        )
        for share in (0.01, 0.5, 0.9, 0.99):
            assert percentile(values, share) == pytest.approx(np.percentile(values, 100 * share), abs=1)
    for level in (0, 7, 255):
        assert level <= percentile(np.full((5, 5), level, np.uint8), 0.99) <= min(255, level + 1)


@pytest.mark.parametrize("kind", ["salt_and_pepper", "coloured_gaussian"])
def test_noise_scores_grow_with_severity(kind: str) -> None:
    for seed in range(3):
        crop, mask = cell(seed, 96)
        scores = [measure(DEGRADATIONS[kind](crop, s, np.random.default_rng(0)), mask) for s in (0, 1, 2, 3, 4)]
        assert (np.diff([score.noise_score for score in scores]) > 0).all()
        assert (np.diff([score.surroundings_noise for score in scores]) > 0).all()


@pytest.mark.parametrize("kind", ["salt_and_pepper", "coloured_gaussian", "blur"])
@pytest.mark.parametrize("severity", [2, 3, 4])
def test_known_severity_is_told_from_clean(kind: str, severity: int) -> None:
    clean = [cell(seed) for seed in range(60)]
    worse = [(DEGRADATIONS[kind](c, severity, np.random.default_rng(k)), m) for k, (c, m) in enumerate(clean)]
    name = "blur_score" if kind == "blur" else "noise_score"
    values = [getattr(measure(c, m), name) for c, m in clean + worse]
    assert roc_auc_score([0] * 60 + [1] * 60, values) >= 0.99
