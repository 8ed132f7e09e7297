from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from buffycoat.core.errors import InputError
from buffycoat.data.gather_portions import gather_portions
from buffycoat.data.images import CYTOPLASM, NUCLEUS, Pixels, ShardWriter, relative_shard
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.measure import MORPHOLOGY
from buffycoat.data.tables.restore import CELLS
from buffycoat.measure.measure_cells import measure_cell, measure_cells
from buffycoat.measure.settings import MeasureCells

SETTINGS = MeasureCells()


def drawn(size: int = 96, radius: float = 30, nucleus: float = 15, shift: float = 6) -> tuple[Pixels, Pixels]:
    rows, cols = np.mgrid[:size, :size] - (size - 1) / 2
    mask = np.zeros((size, size), np.uint8)
    mask[np.hypot(rows, cols) <= radius] = CYTOPLASM
    mask[np.hypot(rows, cols - shift) <= nucleus] = NUCLEUS
    crop = np.full((size, size, 3), 240, np.uint8)
    crop[mask == CYTOPLASM] = (150, 170, 220)
    crop[mask == NUCLEUS] = (90, 40, 130)
    return crop, mask


def test_a_drawn_cell_has_the_values_it_was_drawn_with() -> None:
    found = measure_cell(*drawn(), 1.0, SETTINGS)
    assert found["measured"] and found["reason"] == "" and found["nucleus_from"] == "carried"
    assert found["area_px"] == pytest.approx(np.pi * 30**2, rel=0.01)
    assert found["nucleus_ratio"] == pytest.approx(0.25, rel=0.02)
    assert found["nucleus_offset_radii"] == pytest.approx(0.2, rel=0.02)
    assert found["spikiness"] < 1.05 and found["solidity"] > 0.95 and found["eccentricity"] < 0.2
    assert found["cytoplasm_level"] == pytest.approx(0.299 * 150 + 0.587 * 170 + 0.114 * 220, abs=1)
    assert found["cell_level"] < found["cytoplasm_level"]
    assert found["red_blue_ratio"] == pytest.approx((0.75 * 150 + 0.25 * 90) / (0.75 * 220 + 0.25 * 130), rel=0.01)


def test_quarter_turns_change_nothing() -> None:
    crop, mask = drawn()
    crop += np.random.default_rng(1).integers(0, 9, crop.shape, np.uint8)
    straight = measure_cell(crop, mask, 1.0, SETTINGS)
    turned = measure_cell(np.rot90(crop).copy(), np.rot90(mask).copy(), 1.0, SETTINGS)
    assert turned.keys() == straight.keys()
    for name, value in straight.items():
        assert turned[name] == (pytest.approx(value, rel=1e-5, abs=1e-9) if isinstance(value, float) else value)


def test_areas_are_in_source_pixels_and_ratios_do_not_depend_on_scale() -> None:
    once, twice = measure_cell(*drawn(), 1.0, SETTINGS), measure_cell(*drawn(), 2.0, SETTINGS)
    assert twice["area_px"] == 4 * once["area_px"] and once["lobes"] == 1
    assert once["nucleus_cytoplasm_ratio"] == pytest.approx(1 / 3, rel=0.02)
    assert {**twice, "area_px": 0} == {**once, "area_px": 0}
    # The same cell stored at half the resolution.
    half = measure_cell(*drawn(48, 15, 7.5, 3), 2.0, SETTINGS)
    assert half["area_px"] == pytest.approx(once["area_px"], rel=0.03)
    assert half["nucleus_ratio"] == pytest.approx(once["nucleus_ratio"], rel=0.06)
    assert half["nucleus_offset_radii"] == pytest.approx(once["nucleus_offset_radii"], rel=0.06)


def test_shape_comes_from_the_mask_and_never_from_colour() -> None:
    crop, mask = drawn()
    other = measure_cell(np.full_like(crop, 255) - crop // 3, mask, 1.0, SETTINGS)
    straight = measure_cell(crop, mask, 1.0, SETTINGS)
    for name in ("spikiness", "area_px", "nucleus_ratio", "nucleus_offset_radii", "solidity", "eccentricity", "lobes",
                 "cell_circularity", "cell_solidity", "irregularity", "nucleus_circularity",
                 "nucleus_cytoplasm_ratio"):  # fmt: skip
        assert other[name] == straight[name]
    outside = crop.copy()
    outside[mask == 0] = 3
    darker = measure_cell(outside, mask, 1.0, SETTINGS)
    # The glass is looked at for optical densities alone.
    changed = {name for name, value in straight.items() if darker[name] != value}
    assert changed == {"cytoplasm_red", "cytoplasm_green", "cytoplasm_blue", "eosinophilia"}


def test_without_a_nucleus_in_the_mask_the_dark_part_is_it() -> None:
    crop, mask = drawn()
    straight = measure_cell(crop, mask, 1.0, SETTINGS)
    whole = np.where(mask > 0, np.uint8(CYTOPLASM), np.uint8(0))
    for found in (
        measure_cell(crop, whole, 1.0, SETTINGS),
        measure_cell(crop, mask, 1.0, MeasureCells(nucleus="grey")),
    ):
        assert {**found, "nucleus_from": "carried"} == straight
        assert found["nucleus_from"] == "grey"


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        ((slice(0, 0), slice(0, 0)), "the mask is empty"),
        ((slice(5, 6), slice(5, 6)), "the outline encloses 0 pixels, fewer than 50"),
        ((slice(5, 6), slice(0, 90)), "the outline encloses 0 pixels"),
        ((slice(5, 12), slice(5, 12)), "the outline encloses 36 pixels"),
        ((slice(5, 40), slice(5, 40)), "no nucleus"),
    ],
)
def test_what_cannot_be_measured_says_why(pixels: tuple[slice, slice], reason: str) -> None:
    mask = np.zeros((96, 96), np.uint8)
    mask[pixels] = CYTOPLASM
    found = measure_cell(np.full((96, 96, 3), 128, np.uint8), mask, 1.0, SETTINGS)
    assert found["measured"] is False
    assert found["reason"].startswith(reason)
    assert all(found[column.name] is None for column in MORPHOLOGY.columns if column.gaps)


def test_the_smallest_area_is_in_source_pixels() -> None:
    crop, mask = np.full((96, 96, 3), 128, np.uint8), np.zeros((96, 96), np.uint8)
    mask[5:12, 5:12], mask[8, 8] = CYTOPLASM, NUCLEUS
    assert not measure_cell(crop, mask, 1.0, SETTINGS)["measured"]
    assert measure_cell(crop, mask, 2.0, SETTINGS)["measured"]


def test_a_cell_that_is_all_nucleus_has_no_cytoplasm_level() -> None:
    crop, mask = drawn()
    mask[mask > 0] = NUCLEUS
    found = measure_cell(crop, mask, 1.0, SETTINGS)
    assert found["measured"] and found["nucleus_ratio"] == 1 and found["nucleus_offset_radii"] == 0
    assert found["cytoplasm_level"] is None


def write_cells(folder: Path, cells: list[tuple[Pixels, Pixels]], found: list[bool], window_px: int = 96) -> None:
    rows = []
    with ShardWriter(folder / "shards", 96) as writer:
        for number, cell in enumerate(cells):
            name, row, crc = writer.add(f"c{number}", *cell)
            shard = relative_shard(folder / "shards", name, folder / "cells.parquet")
            rows.append({"image_id": f"c{number}", "shard": shard, "shard_row": row, "crc32": crc})
    frame = pd.DataFrame(rows)
    CELLS.write(
        frame.assign(
            restored=False, noise_before=1.0, noise_after=None, nucleus_change=None, cell_change=None, reason="kept"
        ),
        folder / "cells.parquet",
    )
    crops = frame.assign(row=48.0, col=48.0, window_px=window_px, found=found, masks=1, touches_border=False)
    crops = crops.assign(area_px=1, nucleus_area_px=1, reason="")
    # The order of another table is never relied on.
    CROPS.write(crops.iloc[::-1], folder / "crops.parquet")


def measured(folder: Path, threads: int = 1) -> pd.DataFrame:
    crops, cells, morphology = (folder / f"{name}.parquet" for name in ("crops", "cells", "morphology"))
    measure_cells(crops=crops, cells=cells, morphology=morphology, threads=threads, settings=SETTINGS)
    return MORPHOLOGY.read(morphology)


def test_the_step_keeps_every_row_in_order(tmp_path: Path) -> None:
    crop, mask = drawn()
    cells = [(crop, mask), (crop, np.full_like(mask, CYTOPLASM)), (crop, np.zeros_like(mask)), drawn(radius=40)]
    write_cells(tmp_path, cells, [True, False, True, True], window_px=192)
    frames = [measured(tmp_path, threads) for threads in (1, 3)]
    pd.testing.assert_frame_equal(frames[0], frames[1])
    frame = frames[0]
    assert frame["image_id"].tolist() == ["c0", "c1", "c2", "c3"]
    assert frame["measured"].tolist() == [True, False, False, True]
    assert frame["reason"].tolist() == ["", "no white cell was found in the image", "the mask is empty", ""]
    assert frame["area_px"].iloc[0] == pytest.approx(4 * np.pi * 30**2, rel=0.01)
    assert frame["spikiness"].isna().tolist() == [False, True, True, False]


def test_portions_gathered_are_what_one_job_measures(tmp_path: Path) -> None:
    write_cells(tmp_path, [drawn(nucleus=10 + k) for k in range(5)], [True, True, False, True, True])
    whole, gathered = measured(tmp_path), tmp_path / "gathered" / "morphology.parquet"
    paths = {"crops": tmp_path / "crops.parquet", "cells": tmp_path / "cells.parquet"}
    portions = {f"{k}-of-3": tmp_path / f"{k}-of-3" / "morphology.parquet" for k in (1, 2, 3)}
    for portion, table in portions.items():
        measure_cells(**paths, morphology=table, portion=portion, settings=SETTINGS)
    gather_portions(portions=list(portions.values()), table=gathered)
    pd.testing.assert_frame_equal(MORPHOLOGY.read(gathered), whole)


def test_a_data_set_without_any_cell_is_still_a_table(tmp_path: Path) -> None:
    write_cells(tmp_path, [drawn()], [False])
    assert measured(tmp_path)["measured"].tolist() == [False]


def test_crops_of_other_images_are_refused(tmp_path: Path) -> None:
    write_cells(tmp_path, [drawn(), drawn()], [True, True])
    crops = CROPS.read(tmp_path / "crops.parquet")
    CROPS.write(crops.iloc[:1], tmp_path / "crops.parquet")
    with pytest.raises(InputError, match=r"cells\.parquet: 0 rows lost, 1 invented"):
        measured(tmp_path)


def test_stronger_light_and_more_dye_leave_textures_as_they_are() -> None:
    crop, mask = drawn()
    crop = (crop * np.random.default_rng(1).uniform(0.8, 1, crop.shape[:2])[..., None]).astype(np.uint8)
    straight = measure_cell(crop, mask, 1.0, SETTINGS)
    dim = measure_cell((crop * 0.8).astype(np.uint8), mask, 1.0, SETTINGS)
    for name in ("granularity", "chromatin_contrast"):
        assert dim[name] == pytest.approx(straight[name], rel=0.05)
    for name in ("cytoplasm_red", "cytoplasm_green", "cytoplasm_blue"):
        assert dim[name] == pytest.approx(straight[name], abs=0.01)


def test_a_naked_nucleus_has_gaps_and_is_measured() -> None:
    crop, mask = drawn(nucleus=30, shift=0)
    found = measure_cell(crop, mask, 1.0, SETTINGS)
    assert found["measured"] and found["nucleus_ratio"] == 1
    gaps = {name for name, value in found.items() if value is None}
    assert gaps == {"cytoplasm_level", "nucleus_cytoplasm_ratio", "granularity", "cytoplasm_red", "cytoplasm_green",
                    "cytoplasm_blue", "eosinophilia"}  # fmt: skip


@pytest.mark.parametrize("radius", [4.7, 6.0, 9.0])
def test_tiny_cells_give_numbers_or_gaps(radius: float) -> None:
    found = measure_cell(*drawn(32, radius, radius / 2, 0), 1.0, SETTINGS)
    assert found["measured"]
    assert all(value is None or isinstance(value, str) or np.isfinite(value) for value in found.values())


def test_a_cell_at_the_border_is_measured() -> None:
    crop, mask = drawn()
    found = measure_cell(np.ascontiguousarray(crop[40:]), np.ascontiguousarray(mask[40:]), 1.0, SETTINGS)
    assert found["measured"] and found["lobes"] == 1 and 0 < found["cell_circularity"] < 1
