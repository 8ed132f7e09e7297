from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from buffycoat.classify.crops import Crops
from buffycoat.data.images import BACKGROUND, NUCLEUS, ShardWriter
from buffycoat.data.tables.restore import CELLS

CPU = torch.device("cpu")


@pytest.fixture()
def cells(tmp_path: Path) -> Path:
    """Five crops of random pixels whose left half lies outside the cell."""
    rng = np.random.default_rng(0)
    mask = np.full((32, 32), NUCLEUS, np.uint8)
    mask[:, :16] = BACKGROUND
    rows = []
    with ShardWriter(tmp_path / "shards", 32) as writer:
        for k in range(5):
            shard, row, crc = writer.add(f"{k}", rng.integers(0, 255, (32, 32, 3), np.uint8), mask)
            rows.append({"image_id": f"{k}", "shard": f"shards/{shard}", "shard_row": row, "crc32": crc})
    frame = pd.DataFrame(rows).assign(
        restored=False, noise_before=1.0, noise_after=np.nan, nucleus_change=np.nan, cell_change=np.nan, reason="clean"
    )
    CELLS.write(frame, tmp_path / "cells.parquet")
    return tmp_path / "cells.parquet"


def test_crops_come_in_any_order_by_name(cells: Path) -> None:
    crops = Crops.read(cells, "keep", 32, CPU)
    places = crops.positions(pd.Series(["3", "0"]))
    batch = crops.batch(places)
    assert batch.shape == (2, 3, 32, 32) and batch.dtype == torch.float32
    assert torch.equal(batch[0], torch.from_numpy(crops.images.crop(3).copy()).permute(2, 0, 1) / 255)
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_white_background_is_outside_the_cell_alone(cells: Path) -> None:
    kept, white = (Crops.read(cells, background, 32, CPU).pixels([1, 2]) for background in ("keep", "white"))
    assert (white[:, :, :16] == 255).all() and torch.equal(white[:, :, 16:], kept[:, :, 16:])


def test_resizing_is_smoothed(cells: Path) -> None:
    small = Crops.read(cells, "keep", 8, CPU).batch([0])
    full = Crops.read(cells, "keep", 32, CPU).batch([0])
    assert small.shape == (1, 3, 8, 8)
    assert small.mean() == pytest.approx(full.mean().item(), abs=0.02) and small.std() < 0.5 * full.std()


@pytest.mark.parametrize("background", ["keep", "white"])
def test_resident_crops_are_the_same_crops(cells: Path, background: str) -> None:
    crops = Crops.read(cells, background, 32, CPU)
    expected = crops.pixels([4, 1, 3])
    crops._keep([1, 3, 4], 32)
    assert crops.resident is not None and torch.equal(crops.pixels([4, 1, 3]), expected)
    # What was not put there comes from the files.
    assert torch.equal(crops.pixels([0, 1]), Crops.read(cells, background, 32, CPU).pixels([0, 1]))


def test_a_cpu_keeps_no_copy(cells: Path) -> None:
    crops = Crops.read(cells, "keep", 32, CPU)
    assert not crops.make_resident([0, 1]) and crops.resident is None
