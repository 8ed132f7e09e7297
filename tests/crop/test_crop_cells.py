from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from buffycoat.core.errors import InputError
from buffycoat.core.files import sha256_of
from buffycoat.crop import cellpose_method
from buffycoat.crop import crop_cells as step
from buffycoat.crop.crop_cells import Job, chunks_of, crop_cells, one_ahead
from buffycoat.crop.segmenter import build_network, half_precision
from buffycoat.crop.settings import CropCells
from buffycoat.data.gather_portions import gather_portions
from buffycoat.data.images import BACKGROUND, CellImages
from buffycoat.data.locations import Location
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import IMAGES, with_places
from buffycoat.nets.weights import write_weights
from tests.crop.cellpose_stubs import ByColour
from tests.crop.drawing import add_cell, field


@pytest.fixture()
def indexed(tmp_path: Path) -> Path:
    """Ten fields of two sizes, the last without a cell, and one row whose file is bad."""
    rows = []
    for k in range(10):
        side = 200 if k % 2 else 230
        image = field(side, seed=k)
        if k < 9:
            add_cell(image, side / 2 + k, side / 2 - k, 38 + k)
        path = tmp_path / f"{k}.png"
        Image.fromarray(image).save(path)
        rows.append({"image_id": f"{k}.png", "path": str(path), "width": side, "height": side, "status": "ok",
                     "sha256": sha256_of(path)})  # fmt: skip
    rows.append({"image_id": "bad.png", "path": str(tmp_path / "bad.png"), "width": None, "height": None,
                 "status": "missing", "sha256": None})  # fmt: skip
    frame = pd.DataFrame(rows).assign(role="train", split=None, reason="")
    frame[["width", "height"]] = frame[["width", "height"]].astype("Int32")
    IMAGES.write(with_places(frame), tmp_path / "images.parquet")
    return tmp_path


METHODS = ["embedded", "stain"]


def run(
    folder: Path, out: str, method: str = "stain", threads: int = 1, batch: int = 4, **options: Any
) -> pd.DataFrame:
    settings = CropCells(method=method, window_px=120, size_px=48, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "CROP_BATCH", batch)
        crop_cells(
            images=folder / "images.parquet", crops=folder / out / "crops.parquet", shards=folder / out / "shards",
            threads=threads, settings=settings,
        )  # fmt: skip
    return CROPS.read(folder / out / "crops.parquet")


def test_auto_means_cellpose_where_its_weights_are_named_and_the_embedded_network_otherwise() -> None:
    assert CropCells().chosen_method() == "embedded"
    assert CropCells(weights="cpsam").chosen_method() == "cellpose"
    assert CropCells(method="stain", weights="cpsam").chosen_method() == "stain"


@pytest.mark.parametrize("method", METHODS)
def test_every_decodable_image_has_a_crop_and_no_other(indexed: Path, method: str) -> None:
    frame = run(indexed, "a", method)
    assert frame["image_id"].tolist() == [f"{k}.png" for k in range(10)]
    assert frame["found"].tolist() == [True] * 9 + [False]
    assert (frame.loc[frame["found"], "reason"] == "").all() and frame["reason"].iloc[-1] != ""
    assert (frame["area_px"].iloc[:9].diff().dropna() > 0).all(), "larger cells have larger areas"
    cells = CellImages(frame, indexed / "a" / "crops.parquet")
    assert sum(1 for _ in cells) == 10
    assert all((cells.mask(k) != BACKGROUND).any() for k in range(10))


def test_yield_and_scale_are_said_at_the_end(indexed: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "buffycoat")
    run(indexed, "a")
    assert caplog.messages[-1].startswith("cells found in 9 of 10 images; median diameter 8")
    assert "of the window of 120 px" in caplog.messages[-1]
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1 and warnings[0].startswith("no white cell found in 1 of 10 images (more than 5 %)")


@pytest.mark.parametrize("background", [(0, 0, 0), (0, 160, 0)])
def test_a_cell_that_was_cut_out_is_found_as_on_glass(tmp_path: Path, background: tuple[int, int, int]) -> None:
    glass = field(200, red_cells=0)
    mask = add_cell(glass, 100, 100, 40)
    cut = np.where(mask[..., None] > 0, glass, np.array(background, np.uint8))
    Image.fromarray(cut).save(tmp_path / "cut.png")
    row = {"image_id": "cut.png", "path": str(tmp_path / "cut.png"), "width": 200, "height": 200, "status": "ok",
           "sha256": sha256_of(tmp_path / "cut.png"), "role": "train", "split": None, "reason": ""}  # fmt: skip
    IMAGES.write(with_places(pd.DataFrame([row])), tmp_path / "images.parquet")
    frame = run(tmp_path, "a", "embedded")
    assert frame["found"].all() and abs(frame["area_px"].iloc[0] / mask.sum() - 1) < 0.1
    crop = CellImages(frame, tmp_path / "a" / "crops.parquet").crop(0)
    assert (crop[0] == 255).all(), "every later stage sees it on white"


@pytest.mark.parametrize("method", METHODS)
def test_threads_and_batches_change_nothing(indexed: Path, method: str) -> None:
    one, three = run(indexed, "a", method, threads=1, batch=3), run(indexed, "b", method, threads=3, batch=7)
    pd.testing.assert_frame_equal(one, three)
    for shard in (indexed / "a" / "shards").iterdir():
        assert shard.read_bytes() == (indexed / "b" / "shards" / shard.name).read_bytes()


def test_a_file_that_vanished_or_changed_since_the_index_is_an_error(indexed: Path) -> None:
    for side in (10, 200):
        Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(indexed / "3.png")
        with pytest.raises(InputError, match=r"3\.png: has changed since it was indexed"):
            run(indexed, "a")
    (indexed / "3.png").unlink()
    with pytest.raises(InputError, match=r"3\.png: No such file or directory; it was sound when indexed"):
        run(indexed, "b")
    assert not (indexed / "b" / "crops.parquet").exists()


def test_a_segmenter_of_the_users_own_is_used(indexed: Path) -> None:
    torch.manual_seed(0)
    blind = build_network()
    torch.nn.init.constant_(blind.segmentation_head[0].bias, -20.0)
    write_weights(half_precision(blind), {}, indexed / "blind.safetensors")
    crop_cells(
        images=indexed / "images.parquet", segmenter=[indexed / "blind.safetensors"],
        crops=indexed / "c" / "crops.parquet", shards=indexed / "c" / "shards",
        settings=CropCells(window_px=120, size_px=48),
    )  # fmt: skip
    frame = CROPS.read(indexed / "c" / "crops.parquet")
    assert not frame["found"].any() and (frame["reason"] != "").all() and (frame["masks"] == 0).all()


def test_the_step_runs_with_cellpose_and_other_processes(indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = ByColour()
    monkeypatch.setattr(cellpose_method, "load_network", lambda path, device: network)
    (indexed / "cpsam").write_bytes(b"stands in")
    frame = run(indexed, "a", method="cellpose", weights=str(indexed / "cpsam"), threads=2)
    assert frame["image_id"].tolist() == [f"{k}.png" for k in range(10)]
    assert frame["found"].tolist() == [True] * 9 + [False]
    discs = np.pi * (38 + np.arange(9)) ** 2
    assert (np.abs(frame["area_px"].iloc[:9] / discs - 1) < 0.06).all()
    # Each chunk of four holds two sizes, each of which fills one tile.
    assert network.batches == [2, 2, 2, 2, 1, 1]


def test_what_is_decoded_at_once_is_bounded_by_number_and_by_pixels() -> None:
    small, large, huge = (
        Job(Location(name), "", size) for name, size in (("s", 100), ("l", 200_000_000), ("h", 10**12))
    )
    assert list(chunks_of([small] * 5, 2)) == [[small] * 2, [small] * 2, [small]]
    assert list(chunks_of([small, large, large, small], 9)) == [[small, large], [large, small]]
    assert list(chunks_of([huge], 9)) == [[huge]] and list(chunks_of([], 9)) == []
    boxes = [large._replace(box=(k, 0.0, k + 9.0, 9.0)) for k in range(3)]
    assert list(chunks_of(boxes, 9)) == [boxes], "a field counts once for all of its boxes"


def test_one_ahead_makes_the_next_before_it_hands_out_the_last() -> None:
    made: list[int] = []

    def making() -> Iterator[int]:
        for k in range(4):
            made.append(k)
            yield k

    for item in one_ahead(making()):
        assert made == list(range(min(item + 2, 4)))
    assert made == [0, 1, 2, 3]
    assert list(one_ahead([])) == [] and list(one_ahead([1])) == [1]


@pytest.mark.parametrize("portions", [2, 5])
def test_portions_gathered_are_what_one_job_makes(
    indexed: Path, portions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "CROP_BATCH", 4)
    whole = run(indexed, "a", batch=4)
    settings = CropCells(method="stain", window_px=120, size_px=48)
    tables = [indexed / "portions" / f"{k + 1}-of-{portions}" / "crops.parquet" for k in range(portions)]
    for table in tables:
        crop_cells(
            images=indexed / "images.parquet", crops=table, shards=table.parent / "shards",
            portion=table.parent.name, settings=settings,
        )  # fmt: skip
    out = indexed / "crops.parquet"
    gather_portions(portions=tables, table=out)
    frame = CROPS.read(out)
    # The shards stay where they are: the table names them from its own folder.
    assert all(shard.startswith("portions/") for shard in frame["shard"])
    assert len(frame["shard"].unique()) == min(portions, 3), "ten images are three units of four"
    pd.testing.assert_frame_equal(
        frame.drop(columns=["shard", "shard_row"]), whole.drop(columns=["shard", "shard_row"])
    )
    for ours, theirs in zip(CellImages(frame, out), CellImages(whole, indexed / "a" / "crops.parquet"), strict=True):
        assert ours[0] == theirs[0] and np.array_equal(ours[1], theirs[1]) and np.array_equal(ours[2], theirs[2])


def test_a_portion_without_its_shards_is_said(indexed: Path) -> None:
    run(indexed, "a")
    shutil.rmtree(indexed / "a" / "shards")
    gather_portions(portions=[indexed / "a" / "crops.parquet"], table=indexed / "crops.parquet")
    with pytest.raises(InputError, match=r"a/shards/00000\.arrow: missing or damaged image shard"):
        CellImages(CROPS.read(indexed / "crops.parquet"), indexed / "crops.parquet")
