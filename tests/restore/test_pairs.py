from __future__ import annotations

import cv2
import numpy as np
import pytest

from buffycoat.data.degradations import DEGRADATIONS
from buffycoat.restore import pairs as module
from buffycoat.restore.pairs import (
    CleanCrops,
    degrade_at_source,
    held_out_pairs,
    to_pixels,
    to_tensor,
    training_batch,
)
from buffycoat.restore.settings import TrainGan

SETTINGS = TrainGan(batch=3)


def smooth(count: int, side: int) -> CleanCrops:
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 220, (count, 5, 5, 3)).astype(np.uint8)
    grown = [cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC) for image in coarse]
    return CleanCrops(np.stack(grown), np.full(count, side))


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    crops = smooth(5, 32)
    first, again, other = (training_batch(crops, SETTINGS, 1, step) for step in (3, 3, 4))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not (first[1] == other[1]).all()
    noisy, kinds = held_out_pairs(crops, SETTINGS, 1)
    assert noisy.shape == crops.pixels.shape and set(kinds) <= set(SETTINGS.kinds)


def test_patches_are_cut_from_both_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEVERITY", (0.0, 0.0))
    settings = SETTINGS.model_copy(update={"patch_px": 16, "kinds": ("illumination",)})
    noisy, clean = training_batch(smooth(5, 32), settings, 1, 0)
    assert noisy.shape == clean.shape == (3, 3, 16, 16)
    assert (noisy == clean).all()
    whole = settings.model_copy(update={"patch_px": 64})
    assert training_batch(smooth(5, 32), whole, 1, 0)[0].shape == (3, 3, 32, 32)


@pytest.mark.parametrize("kind", sorted(DEGRADATIONS))
def test_damage_in_the_window_is_what_cropping_a_damaged_image_gives(kind: str) -> None:
    side, window = 32, 96
    crop = smooth(1, side).pixels[0]
    unchanged = degrade_at_source(crop, window, kind, 0.0, np.random.default_rng(1))
    assert np.array_equal(unchanged, crop)
    made = degrade_at_source(crop, window, kind, 3.0, np.random.default_rng(1))
    large = cv2.resize(crop, (window, window), interpolation=cv2.INTER_LINEAR)
    damaged = DEGRADATIONS[kind](large, 3.0, np.random.default_rng(1))
    expected = cv2.resize(damaged, (side, side), interpolation=cv2.INTER_AREA)
    # They differ by what enlarging and shrinking lose of the crop, a few grey levels.
    assert np.abs(made.astype(int) - expected).mean() < 4
    assert np.abs(made.astype(int) - crop).mean() > (0.3 if kind == "blur" else 4)


def test_noise_is_milder_where_the_window_shrinks_and_the_crop_itself_is_damaged_otherwise() -> None:
    crop = smooth(1, 32).pixels[0]
    error = [
        np.abs(degrade_at_source(crop, window, "salt_and_pepper", 4, np.random.default_rng(0)) - crop.astype(float))
        for window in (32, 64, 128)
    ]
    spread = [float(each.std()) for each in error]
    assert spread == sorted(spread, reverse=True) and spread[0] > 2 * spread[2]
    direct = DEGRADATIONS["salt_and_pepper"](crop, 4, np.random.default_rng(0))
    for window in (16, 32):
        assert np.array_equal(degrade_at_source(crop, window, "salt_and_pepper", 4, np.random.default_rng(0)), direct)


def test_tensors_and_pixels_round_trip() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    assert np.array_equal(to_pixels(to_tensor(crops)), crops)


def test_given_pairs_are_turned_alike_and_judged_as_they_are() -> None:
    crops = smooth(5, 32)
    damaged = np.stack([255 - crop for crop in crops.pixels])
    given = CleanCrops(crops.pixels, crops.window_px, damaged, ("mild", "mild", "bad", "bad", "odd"))
    noisy, clean = training_batch(given, SETTINGS, 1, 0)
    assert np.array_equal(255 - to_pixels(noisy), to_pixels(clean))
    held, severities = held_out_pairs(given, SETTINGS, 1)
    assert held is damaged and severities == ["mild", "mild", "bad", "bad", "odd"]
