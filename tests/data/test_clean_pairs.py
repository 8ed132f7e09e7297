from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from buffycoat.crop.framing import cut_window, resize_crop
from buffycoat.data.clean_pairs import against_clean_forms, aligned, likeness, paired_crops, psnr, ssim
from buffycoat.data.degradations import DEGRADATIONS
from buffycoat.data.images import CellImages, ShardWriter


def smooth(seed: int, side: int = 200) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 5)
    return np.asarray(cv2.normalize(blurred, blurred, 0, 255, cv2.NORM_MINMAX), np.uint8)


def tables(centres: dict[str, tuple[float, float]], window_px: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    images = pd.DataFrame({
        "image_id": list(centres), "severity": ["mild" if k.startswith("d") else None for k in centres],
        "original": ["p" + name[1:] if name.startswith("d") else None for name in centres],
    })  # fmt: skip
    crops = pd.DataFrame({
        "image_id": list(centres), "row": [c[0] for c in centres.values()], "col": [c[1] for c in centres.values()],
        "window_px": window_px,
    })  # fmt: skip
    return images, crops


@pytest.mark.parametrize("size_px", [100, 50])
def test_a_clean_crop_is_moved_to_where_the_degraded_one_lies(size_px: int) -> None:
    field = smooth(1)
    images, crops = tables({"p1": (100.2, 90.0), "d1": (104.9, 83.4)}, 100)
    (row,) = paired_crops(images, crops).itertuples()
    crop = {name: resize_crop(cut_window(field, *centre, 100, 255), size_px)
            for name, centre in (("p", (100.2, 90.0)), ("d", (104.9, 83.4)))}  # fmt: skip
    moved, inside = aligned(crop["p"], 100, row.down, row.right)
    assert (row.down, row.right) == (5, -7)
    assert 0.8 < inside.mean() < 1 and likeness(crop["d"], moved, inside)[0] > (90 if size_px == 100 else 38)
    assert likeness(crop["d"], crop["p"], inside)[0] < 25


def test_windows_without_offset_are_left_as_they_are() -> None:
    crop = smooth(2, 64)
    moved, inside = aligned(crop, 100, 0, 0)
    assert moved is crop and inside.all()


def test_only_pairs_of_one_cell_are_paired() -> None:
    centres = {"p1": (100.0, 100.0), "d1": (102.0, 100.0), "p2": (50.0, 50.0), "d2": (50.0, 90.0), "d3": (1.0, 1.0)}
    assert paired_crops(*tables(centres, 100))["image_id"].tolist() == ["d1"]


def test_psnr_and_ssim_of_known_images() -> None:
    a = np.zeros((8, 8, 3), np.uint8)
    assert psnr(a, a) == 100
    assert psnr(a + 255, a) == pytest.approx(0)
    assert psnr(a + 1, a) == pytest.approx(48.1308, abs=1e-3)
    image = smooth(1, 32)
    noisy = [DEGRADATIONS["salt_and_pepper"](image, level, np.random.default_rng(0)) for level in (0, 1, 4)]
    scores = [ssim(each, image) for each in noisy]
    assert scores[0] == pytest.approx(1) and scores == sorted(scores, reverse=True) and scores[-1] < 0.6


def cells(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, CellImages, CellImages, pd.DataFrame]:
    """Two pairs; the degraded crop of the second one was restored to the clean one."""
    rng = np.random.default_rng(0)
    clean = [rng.integers(0, 256, (32, 32, 3)).astype(np.uint8) for _ in range(2)]
    worse = [np.clip(crop + rng.normal(0, 20, crop.shape), 0, 255).astype(np.uint8) for crop in clean]
    mask = np.ones((32, 32), np.uint8)
    rows = []
    with ShardWriter(folder / "shards", 32) as writer:
        for name, crop in (("p0", clean[0]), ("p1", clean[1]), ("d0", worse[0]), ("d1", worse[1]), ("r1", clean[1])):
            shard, row, crc32 = writer.add(name, crop, mask)
            rows.append({"image_id": name, "shard": f"shards/{shard}", "shard_row": row, "crc32": crc32})
    crops = pd.DataFrame(rows[:4]).assign(row=16.0, col=16.0, window_px=32)
    table = pd.DataFrame([*rows[:3], {**rows[4], "image_id": "d1"}]).assign(restored=[False, False, False, True])
    images = pd.DataFrame({"image_id": ["p0", "p1", "d0", "d1"], "severity": [None, None, "mild", "odd words"],
                           "original": [None, None, "p0", "p1"]})  # fmt: skip
    pixels = CellImages(crops, folder / "crops.parquet"), CellImages(table, folder / "cells.parquet")
    return images, table, *pixels, crops


def test_likeness_to_the_clean_form_by_severity(tmp_path: Path) -> None:
    mild, odd = against_clean_forms(*cells(tmp_path))
    assert (mild["severity"], mild["pairs"], mild["restored"], mild["of_restored"]) == ("mild", 1, 0, None)
    before, after = (float(value) for value in mild["all"]["psnr"].split(" → "))
    assert before == after and 15 < before < 30
    assert odd["severity"] == "odd words" and odd["of_restored"]["psnr"].endswith("→ 100.00")


def test_without_pairs_there_is_nothing_to_compare(tmp_path: Path) -> None:
    images, *others = cells(tmp_path)
    assert against_clean_forms(images.assign(original=None), *others) == []
