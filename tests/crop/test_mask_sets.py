from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from buffycoat.core.errors import InputError
from buffycoat.crop.segmenter_samples import LONGEST_PX, masked_image, read_mask_set
from tests.crop.drawing import add_cell, field


def write_set(folder: Path, rows: list[str], header: str = "image,mask,nucleus_marked") -> Path:
    image, mask = np.full((40, 60, 3), 230, np.uint8), np.zeros((40, 60), np.uint8)
    cv2.circle(mask, (30, 20), 12, 128, -1)
    cv2.circle(mask, (30, 20), 6, 255, -1)
    cv2.circle(mask, (5, 5), 3, 128, -1)
    cv2.imwrite(str(folder / "a.png"), image)
    cv2.imwrite(str(folder / "a_mask.png"), mask)
    cv2.imwrite(str(folder / "empty.png"), np.zeros((40, 60), np.uint8))
    cv2.imwrite(str(folder / "small.png"), mask[:20])
    table = folder / "masks.csv"
    table.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8-sig")
    return table


def test_each_region_is_a_cell_and_levels_tell_the_nucleus(tmp_path: Path) -> None:
    (image,) = read_mask_set(write_set(tmp_path, ["a.png,a_mask.png,1"]))
    assert image.cells.max() == 2 and len(image.extents()) == 2
    assert image.nuclei.sum() == (cv2.imread(str(tmp_path / "a_mask.png"), 0) == 255).sum()
    longest = max(extent for _, _, extent in image.extents())
    assert longest == 25


def test_unmarked_nuclei_say_nothing(tmp_path: Path) -> None:
    (image,) = read_mask_set(write_set(tmp_path, ["a.png,a_mask.png,0"]))
    assert not image.nucleus_marked and not image.nuclei.any()


def test_without_the_column_nuclei_are_marked(tmp_path: Path) -> None:
    (image,) = read_mask_set(write_set(tmp_path, ["a.png,a_mask.png"], header="image,mask"))
    assert image.nucleus_marked and image.nuclei.any()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("b.png,a_mask.png,1", r"row 2: .*b\.png: no such file"),
        ("a.png,empty.png,1", r"row 2: the mask 'empty\.png' has no cell"),
        ("a.png,small.png,1", r"row 2: the mask is \(20, 60\), its image \(40, 60\)"),
        ("../a.png,a_mask.png,1", r"row 2: '\.\./a\.png' leads out of"),
        ("a.png,a_mask.png,perhaps", r"row 2: nucleus_marked is 'perhaps'"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_mask_set(write_set(tmp_path, [row]))


def test_a_bad_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_mask_set(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"lacks the columns \['mask'\]"):
        read_mask_set(write_set(tmp_path, ["a.png"], header="image"))
    with pytest.raises(InputError, match="has no rows"):
        read_mask_set(write_set(tmp_path, []))


def test_large_images_are_reduced_with_their_masks() -> None:
    levels = np.zeros((1000, 2000), np.uint8)
    levels[400:600, 900:1100] = 128
    image = masked_image("x", np.full((1000, 2000, 3), 200, np.uint8), levels, False)
    assert image.pixels.shape == (LONGEST_PX // 2, LONGEST_PX, 3) and image.cells.shape == image.pixels.shape[:2]
    assert abs(image.extents()[0][2] - 200 * LONGEST_PX / 2000) <= 1


def test_nuclei_that_nobody_drew_are_known_only_where_the_stain_is_clear() -> None:
    pixels = field(160, red_cells=3)
    cell = add_cell(pixels, 80, 80, 40)
    nucleus = np.zeros_like(cell)
    cv2.circle(nucleus, (80, 80), 24, 1, -1)
    nuclei, known = masked_image("x", pixels, cell * 128, False).clear_nuclei()
    assert (nuclei & (nucleus == 0)).sum() < 0.03 * nucleus.sum() and nuclei.sum() > 0.9 * nucleus.sum()
    assert known[cell == 0].all() and not known[cell > 0].all() and known[cell > 0].mean() > 0.9
    # A cell of one colour says nothing about its nucleus.
    pixels[cell > 0] = (95, 45, 140)
    nuclei, known = masked_image("x", pixels, cell * 128, False).clear_nuclei()
    assert not nuclei.any() and not known[cell > 0].any() and known[cell == 0].all()


def test_nuclei_that_were_drawn_are_known_everywhere() -> None:
    levels = np.zeros((40, 40), np.uint8)
    levels[10:30, 10:30], levels[15:25, 15:25] = 128, 255
    nuclei, known = masked_image("x", np.full((40, 40, 3), 200, np.uint8), levels, True).clear_nuclei()
    assert known.all() and (nuclei == (levels == 255)).all()
