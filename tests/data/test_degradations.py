from __future__ import annotations

import numpy as np
import pytest

from buffycoat.data.degradations import DEGRADATIONS, blur, salt_and_pepper
from buffycoat.data.images import Pixels


def image() -> Pixels:
    rng = np.random.default_rng(0)
    rows, cols = np.mgrid[:96, :96]
    base = np.stack([120 + 60 * np.sin(rows / 5), 110 + 50 * np.cos(cols / 4), 130 + 40 * np.sin((rows + cols) / 6)], 2)
    return np.clip(base + rng.normal(0, 4, base.shape), 0, 255).astype(np.uint8)


def error(kind: str, severity: float, seed: int = 1) -> float:
    clean = image()
    worse = DEGRADATIONS[kind](clean, severity, np.random.default_rng(seed))
    return float(((worse.astype(float) - clean) ** 2).mean())


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_severity_zero_changes_nothing_and_more_is_worse(kind: str) -> None:
    errors = [np.mean([error(kind, severity, seed) for seed in range(8)]) for severity in range(5)]
    assert errors[0] == 0
    assert (np.diff(errors) > 0).all()


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_shape_and_type_stay_and_the_input_is_not_touched(kind: str) -> None:
    clean = image()
    before = clean.copy()
    worse = DEGRADATIONS[kind](clean, 3, np.random.default_rng(0))
    assert worse.shape == clean.shape and worse.dtype == np.uint8 and worse is not clean
    assert np.array_equal(clean, before)


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_the_generator_alone_decides(kind: str) -> None:
    first, again, other = (DEGRADATIONS[kind](image(), 2.5, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    if kind != "blur":
        assert not np.array_equal(first, other)


def test_salt_and_pepper_hits_four_percent_per_level() -> None:
    grey = np.full((400, 400, 3), 128, np.uint8)
    for severity in (1, 4):
        worse = salt_and_pepper(grey, severity, np.random.default_rng(0))
        assert abs((worse[..., 0] != 128).mean() - 0.04 * severity) < 0.005
        assert set(np.unique(worse)) == {0, 128, 255}


def test_blur_follows_the_size_of_the_image() -> None:
    point = np.zeros((200, 200, 3), np.uint8)
    point[100, 100] = 255
    spread = (blur(point, 2, np.random.default_rng(0))[..., 0] > 2).sum()
    wider = np.zeros((400, 400, 3), np.uint8)
    wider[200:202, 200:202] = 255
    assert (blur(wider, 2, np.random.default_rng(0))[..., 0] > 2).sum() > 2.5 * spread
