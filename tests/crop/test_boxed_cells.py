from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from buffycoat.core.files import sha256_of
from buffycoat.crop import crop_cells as step
from buffycoat.crop.crop_cells import crop_cells
from buffycoat.crop.framing import NO_CELL, Answer, ellipse_in, frame_box, overlap_with, region_of_box, view_around
from buffycoat.crop.settings import CropCells
from buffycoat.data.images import BACKGROUND, CYTOPLASM, NUCLEUS, CellImages
from buffycoat.data.locations import Location
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import BOX, IMAGES, with_places
from tests.crop.drawing import add_cell, field

CENTRES = [(70, 80), (70, 230), (200, 110), (210, 260)]
RADIUS = 34


def boxes() -> list[tuple[float, ...]]:
    return [(col - RADIUS, row - RADIUS, col + RADIUS, row + RADIUS) for row, col in CENTRES]


@pytest.fixture()
def indexed(tmp_path: Path) -> Path:
    """A field of four cells, each with its box, and one box on the ground; a whole image of a cell among them."""
    image = field(320, seed=1)
    for row, col in CENTRES:
        add_cell(image, row, col, RADIUS)
    Image.fromarray(image).save(tmp_path / "field.png")
    alone = field(200, seed=2)
    add_cell(alone, 100, 100, 38)
    Image.fromarray(alone).save(tmp_path / "alone.png")
    rows = [{"image_id": f"field.png#{k}", "path": "field.png", **dict(zip(BOX, box, strict=True))}
            for k, box in enumerate([*boxes(), (130.0, 290.0, 160.0, 320.0)], start=1)]  # fmt: skip
    rows.insert(2, {"image_id": "alone.png", "path": "alone.png", **dict.fromkeys(BOX)})
    frame = pd.DataFrame(rows)
    sides = frame["path"].map({"field.png": 320, "alone.png": 200})
    frame["path"] = [str(tmp_path / name) for name in frame["path"]]
    digests = [sha256_of(Path(path)) for path in frame["path"]]
    frame = frame.assign(role="train", split=None, status="ok", reason="", width=sides, height=sides, sha256=digests)
    frame[["width", "height"]] = frame[["width", "height"]].astype("Int32")
    frame[list(BOX)] = frame[list(BOX)].astype(float)
    IMAGES.write(with_places(frame), tmp_path / "images.parquet")
    return tmp_path


def run(folder: Path, out: str, method: str, threads: int = 2, portion: str = "1-of-1") -> pd.DataFrame:
    crop_cells(
        images=folder / "images.parquet", crops=folder / out / "crops.parquet", shards=folder / out / "shards",
        portion=portion, threads=threads, settings=CropCells(method=method, window_px=100, size_px=64),
    )  # fmt: skip
    return CROPS.read(folder / out / "crops.parquet")


@pytest.mark.parametrize("method", ["embedded", "stain"])
def test_each_box_gives_the_cell_in_it(indexed: Path, method: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    crops = run(indexed, "a", method)
    assert crops["image_id"].tolist() == [
        "field.png#1",
        "field.png#2",
        "alone.png",
        *(f"field.png#{k}" for k in (3, 4, 5)),
    ]
    boxed = crops[crops["image_id"].str.startswith("field")].reset_index(drop=True)
    assert boxed["found"].tolist() == [True] * 4 + [False] and boxed["reason"].iloc[-1] == NO_CELL
    assert np.abs(boxed[["row", "col"]].to_numpy()[:4] - np.array(CENTRES)).max() < 6
    assert (np.sqrt(boxed["area_px"][:4] / np.pi) / RADIUS).between(0.75, 1.2).all()
    assert np.allclose(boxed.loc[4, ["row", "col"]].to_numpy(float), [305, 145], atol=1.5)
    assert "no white cell found in 1 of 6 images" in caplog.text
    cells = CellImages(crops, indexed / "a" / "crops.parquet")
    assert not (cells.mask(5) == NUCLEUS).any() and (cells.mask(5) != BACKGROUND).any()


def test_threads_and_portions_change_nothing(indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(indexed, "a", "embedded", threads=1)
    monkeypatch.setattr(step, "CROP_BATCH", 2)
    parts = [run(indexed, str(k), "embedded", threads=3, portion=f"{k}-of-3") for k in (1, 2, 3)]
    joined = pd.concat(parts, ignore_index=True)
    pd.testing.assert_frame_equal(
        whole.drop(columns=["shard", "shard_row"]), joined.drop(columns=["shard", "shard_row"])
    )


def test_a_field_is_decoded_once_for_all_of_its_boxes(indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    kept = step.load_again

    def counted(location: Location, sha256: str) -> np.ndarray:
        read.append(Path(location.path).name)
        return kept(location, sha256)

    monkeypatch.setattr(step, "load_again", counted)
    run(indexed, "a", "stain")
    assert sorted(read) == ["alone.png", "field.png"]


def test_the_window_is_cut_at_the_fields_border() -> None:
    image = field(100, seed=0)
    view = view_around(image, (80.0, 5.0, 110.0, 25.0))
    assert view.window.shape[:2] == (45, 35) and (view.top, view.left) == (0, 65)
    assert view.box == (15.0, 5.0, 45.0, 25.0)
    assert region_of_box(view.box, 45, 35).sum() == 20 * 20


def test_a_cell_that_lies_beside_its_box_is_not_taken() -> None:
    image = field(200, seed=0)
    box = (60.0, 60.0, 120.0, 120.0)

    def beside(view: object) -> Answer:
        mask = np.zeros((120, 120), np.uint8)
        mask[20:110, 10:100] = CYTOPLASM
        return Answer([mask], 1)

    framed = frame_box(image, box, beside, 100, 50)
    assert not framed.found and framed.reason == NO_CELL and framed.masks == 1
    ellipse = ellipse_in(box, 200, 200) != BACKGROUND
    assert overlap_with(ellipse, region_of_box(box, 200, 200)) == pytest.approx(np.pi / 4, abs=0.03)
    assert overlap_with(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 0
