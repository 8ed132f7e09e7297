"""Degradations on drawn fields: the properties themselves are tested in tests/test_degradations.py."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from buffycoat.data.degradations import DEGRADATIONS
from buffycoat.data.images import Pixels, noise_score
from buffycoat.data.random import stream
from buffycoat.simulate.painting import draw_field, draw_slide


@pytest.fixture(scope="module")
def field() -> tuple[Pixels, Pixels]:
    return draw_field("SNE", draw_slide(stream(1, "slide", 0)), stream(1, "field", 0))


def score_at(image: Pixels, mask: Pixels, side: int) -> float:
    """Return the noise score of the field, or, below 368 pixels, of its central window of 224 resized to `side`."""
    if side == 368:
        return noise_score(image, mask)
    window = (slice(72, 296), slice(72, 296))
    small = np.asarray(cv2.resize(image[window], (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    return noise_score(small, cv2.resize(mask[window], (side, side), interpolation=cv2.INTER_NEAREST).astype(np.uint8))


@pytest.mark.parametrize("kind", ["salt_and_pepper", "coloured_gaussian"])
@pytest.mark.parametrize("side", [368, 128, 64])
def test_noise_of_severity_2_stands_out_also_in_small_crops(kind: str, side: int, field: tuple[Pixels, Pixels]) -> None:
    image, mask = field
    clean = score_at(image, mask, side)
    for severity in (2, 3, 4):
        noisy = score_at(DEGRADATIONS[kind](image, severity, stream(1, "a")), mask, side)
        # Clean cells of real smears score at most 4.
        assert noisy > max(6.0, 2.0 * clean)


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_a_drawn_field_is_less_like_itself_at_each_severity(kind: str, field: tuple[Pixels, Pixels]) -> None:
    for repeat in range(4):
        likeness = [
            cv2.PSNR(field[0], DEGRADATIONS[kind](field[0], severity, stream(1, "a", repeat)))
            for severity in (1, 2, 3, 4)
        ]
        assert likeness == sorted(likeness, reverse=True) and likeness[3] < likeness[0] - 2


def test_blur_lowers_the_noise_score_and_keeps_the_mean(field: tuple[Pixels, Pixels]) -> None:
    image, mask = field
    blurred = DEGRADATIONS["blur"](image, 4, stream(1, "a"))
    assert noise_score(blurred, mask) < noise_score(image, mask)
    assert blurred.mean() == pytest.approx(image.mean(), abs=1)
