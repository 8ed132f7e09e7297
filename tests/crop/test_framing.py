from __future__ import annotations

import numpy as np

from buffycoat.crop.framing import cut_window, frame_cell, resize_crop, resize_mask, touches_border
from buffycoat.data.images import BACKGROUND, CYTOPLASM, NUCLEUS


def numbered(side: int = 40) -> np.ndarray:
    image = np.zeros((side, side, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(side)[:, None], np.arange(side)
    return image


def test_a_window_inside_the_image_is_a_slice() -> None:
    image = numbered()
    assert np.array_equal(cut_window(image, 20, 15, 10, 255), image[15:25, 10:20])


def test_outside_the_image_is_padding() -> None:
    image = numbered()
    window = cut_window(image, 0, 39, 10, 255)
    assert (window[:5] == 255).all() and (window[:, 6:] == 255).all()
    assert np.array_equal(window[5:, :6], image[0:5, 34:40])
    assert (cut_window(image, 500, 500, 10, 7) == 7).all()


def test_the_crop_is_centred_on_the_cell() -> None:
    image, mask = numbered(100), np.zeros((100, 100), np.uint8)
    mask[60:71, 20:31] = CYTOPLASM
    mask[63:66, 23:26] = NUCLEUS
    framed = frame_cell(image, mask, 1, 40, 40)
    assert (framed.row, framed.col) == (65.0, 25.0)
    assert framed.found and framed.area_px == 121 and framed.nucleus_area_px == 9 and not framed.touches_border
    inside = np.argwhere(framed.mask != BACKGROUND).mean(axis=0)
    assert np.abs(inside - 20).max() <= 0.5
    assert (framed.crop[framed.mask != BACKGROUND][:, 0] >= 60).all()


def test_without_a_cell_the_centre_is_used_and_said() -> None:
    framed = frame_cell(numbered(50), np.zeros((50, 50), np.uint8), 0, 20, 20)
    assert not framed.found and "no white cell" in framed.reason and framed.area_px == 0
    assert (framed.mask == CYTOPLASM).all()
    assert np.array_equal(framed.crop, numbered(50)[15:35, 15:35])


def test_a_cell_at_the_border_is_marked() -> None:
    mask = np.zeros((30, 30), np.uint8)
    mask[0:5, 10:15] = CYTOPLASM
    assert touches_border(mask)
    assert frame_cell(numbered(30), mask, 1, 20, 20).touches_border
    assert not touches_border(np.zeros((5, 5), np.uint8))


def test_resizing_keeps_mean_colour_and_mask_values() -> None:
    image = numbered(64)
    assert np.abs(resize_crop(image, 32).mean() - image.mean()) < 0.6
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = NUCLEUS
    small = resize_mask(mask, 32)
    assert set(np.unique(small)) == {BACKGROUND, NUCLEUS}
    assert abs((small == NUCLEUS).mean() - 0.25) < 0.02
    assert resize_crop(image, 64) is image
