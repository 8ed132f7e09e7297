from __future__ import annotations

import numpy as np
import pytest

from buffycoat.crop.framing import PADDING, frame_cell
from buffycoat.data.images import CYTOPLASM
from buffycoat.partition.measure_noise import inside_image


@pytest.mark.parametrize("size", [100, 64, 33, 150])
@pytest.mark.parametrize("place", [(10, 50), (50, 95), (3, 3), (60, 50), (99, 0)])
def test_no_padding_is_inside_and_little_of_the_image_is_left_out(size: int, place: tuple[int, int]) -> None:
    image = np.full((120, 110, 3), 50, np.uint8)
    mask = np.zeros((120, 110), np.uint8)
    mask[place] = CYTOPLASM
    framed = frame_cell(image, mask, 1, 100, size)
    part = inside_image(framed.row, framed.col, 100, (120, 110), size)
    assert (framed.crop[part] == 50).all()
    outside = framed.crop[..., 0].astype(int)
    outside[part] = PADDING
    # At most a row and a column of blended pixels on each side.
    assert (outside < PADDING).sum() <= 4 * size


def test_a_window_inside_its_image_is_kept_whole() -> None:
    assert inside_image(60, 60, 100, (120, 120), 64) == (slice(0, 64), slice(0, 64))
