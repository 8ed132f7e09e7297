from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from buffycoat.core.errors import InputError
from buffycoat.core.settings import Runtime
from buffycoat.data.gather_portions import gather_portions
from buffycoat.data.images import CYTOPLASM, ShardWriter
from buffycoat.data.tables.embed import EMBEDDINGS, PROMPTS
from buffycoat.data.tables.index import CLASSES
from buffycoat.data.tables.restore import CELLS
from buffycoat.embed import embed_cells as module
from buffycoat.embed.embed_cells import embed_cells, prepare, require_unit, unit
from buffycoat.embed.encoders import Encoder
from buffycoat.embed.settings import EmbedCells

HALF = (0.5, 0.5, 0.5)
SIGLIP = Encoder(nn.Identity(), HALF, HALF, antialias=False)


# --- pixels -----------------------------------------------------------------------------------------------------------


def squashed(image: np.ndarray, size: int) -> np.ndarray:
    """TensorFlow's bilinear resize without antialias, pixel by pixel: half-pixel centres, borders repeated."""
    h, w = image.shape[:2]
    result = np.zeros((size, size, 3))
    for y in range(size):
        for x in range(size):
            v, u = max((y + 0.5) * h / size - 0.5, 0), max((x + 0.5) * w / size - 0.5, 0)
            top, left = int(v), int(u)
            low, right = min(top + 1, h - 1), min(left + 1, w - 1)
            a, b = v - top, u - left
            up = image[top, left] * (1 - b) + image[top, right] * b
            down = image[low, left] * (1 - b) + image[low, right] * b
            result[y, x] = up * (1 - a) + down * a
    return result


@pytest.mark.parametrize("shape", [(64, 64), (90, 90), (20, 20), (56, 56), (50, 80)], ids=str)
def test_preparation_is_the_published_one_to_a_grey_level(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    ours = prepare(torch.from_numpy(image)[None], SIGLIP, 56)[0].permute(1, 2, 0).numpy()
    grey = squashed(image.astype(np.float64), 56)
    assert np.abs((ours + 1) / 2 - grey / 255).max() < 1e-5
    # The published processor takes images of whole grey levels, so a resized one is cut off to them.
    published = (np.floor(grey) / 255 - 0.5) / 0.5
    assert np.abs(ours - published).max() / 2 < 1 / 255 + 1e-5


def test_an_antialias_would_be_noticed() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    smooth = Encoder(nn.Identity(), HALF, HALF, antialias=True)
    pixels = torch.from_numpy(image)[None]
    assert (prepare(pixels, SIGLIP, 56) - prepare(pixels, smooth, 56)).abs().max() / 2 > 10 / 255


def test_bicubic_stays_in_range() -> None:
    edge = torch.zeros(1, 20, 20, 3, dtype=torch.uint8)
    edge[:, :, 10:] = 255
    made = prepare(edge, Encoder(nn.Identity(), (0, 0, 0), (1, 1, 1), interpolation="bicubic"), 57)
    assert made.min() == 0 and made.max() == 1


def test_vectors_that_are_none_are_refused_by_name() -> None:
    vectors = unit(torch.tensor([[3.0, 4.0], [float("nan"), 1.0], [0.0, 0.0]])).numpy()
    with pytest.raises(InputError, match="2 of 3, first for 'b'"):
        require_unit(vectors, pd.Series(["a", "b", "c"]))
    require_unit(vectors[:1], pd.Series(["a"]))


# --- the step ---------------------------------------------------------------------------------------------------------


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    rows = []
    with ShardWriter(tmp_path / "shards", 40) as writer:
        for k in range(5):
            crop = np.random.default_rng(k).integers(0, 256, (40, 40, 3), np.uint8)
            mask = np.zeros((40, 40), np.uint8)
            mask[10:30, 10:30] = CYTOPLASM
            shard, row, crc = writer.add(f"{k}", crop, mask)
            rows.append({"image_id": f"{k}", "shard": f"shards/{shard}", "shard_row": row, "crc32": crc})
    frame = pd.DataFrame(rows).assign(
        restored=False, noise_before=1.0, noise_after=np.nan, nucleus_change=np.nan, cell_change=np.nan, reason="clean"
    )
    CELLS.write(frame, tmp_path / "cells.parquet")
    classes = pd.DataFrame({"code": ["LY", "BA"], "name": ["lymphocyte", "basophil"], "position": [1, 0]})
    CLASSES.write(classes.assign(images=1, groups=None), tmp_path / "classes.parquet")
    return tmp_path


def embedded(
    folder: Path, settings: EmbedCells, batch: int = module.EMBED_BATCH, runtime: Runtime = Runtime()
) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EMBED_BATCH", batch)
        embed_cells(
            cells=folder / "cells.parquet", classes=folder / "classes.parquet", embeddings=folder / "e.parquet",
            prompts=folder / "p.parquet", settings=settings, runtime=runtime,
        )  # fmt: skip
    table = EMBEDDINGS.read(folder / "e.parquet")
    assert table["image_id"].tolist() == [str(k) for k in range(5)]
    return np.stack(table["embedding"].to_list())


def test_embeddings_are_unit_vectors_and_rows_are_kept(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "buffycoat"):
        tables = [embedded(folder, EmbedCells(encoder="efficientnet_lite0", size_px=64), batch) for batch in (5, 2)]
    assert tables[0].shape == (5, 1488) and tables[0].dtype == np.float32
    assert np.allclose(np.linalg.norm(tables[0], axis=1), 1, atol=1e-5)
    assert np.allclose(*tables, atol=1e-5), "a vector does not depend on its batch"
    assert "images/s" in caplog.text
    assert len(PROMPTS.read(folder / "p.parquet")) == 0, "this encoder has no text"


@pytest.mark.parametrize("portions", [2, 4])
def test_portions_gathered_are_what_one_job_embeds_to_the_bit(
    folder: Path, portions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EMBED_BATCH", 2)
    settings = EmbedCells(encoder="efficientnet_lite0", size_px=64)
    whole, gathered = embedded(folder, settings, 2), folder / "gathered" / "embeddings.parquet"
    names = [f"{k}-of-{portions}" for k in range(1, portions + 1)]
    for name in names:
        embed_cells(
            cells=folder / "cells.parquet", classes=folder / "classes.parquet", portion=name, settings=settings,
            embeddings=folder / name / "embeddings.parquet", prompts=folder / name / "prompts.parquet",
        )  # fmt: skip
        assert len(PROMPTS.read(folder / name / "prompts.parquet")) == 0
    gather_portions(portions=[folder / name / "embeddings.parquet" for name in names], table=gathered)
    table = EMBEDDINGS.read(gathered)
    assert table["image_id"].tolist() == [str(k) for k in range(5)]
    assert np.array_equal(np.stack(table["embedding"].to_list()), whole)


def test_bfloat16_moves_the_vectors_a_little_and_the_table_stays_float32(folder: Path) -> None:
    exact = embedded(folder, EmbedCells(encoder="efficientnet_lite0", size_px=64))
    rough = embedded(folder, EmbedCells(encoder="efficientnet_lite0", size_px=64), runtime=Runtime(bf16_on_cpu=True))
    similarity = (exact * rough).sum(axis=1)
    assert rough.dtype == np.float32 and not np.array_equal(exact, rough)
    assert similarity.min() > 0.99


class Means(nn.Module):
    """Mean of each channel: a network that runs out of memory with more than two images, once asked for more."""

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return images.mean(dim=(2, 3))


def test_a_step_that_runs_out_of_memory_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def texts(prompts: list[str]) -> Tensor:
        assert prompts == ["the basophil here", "the lymphocyte here"]
        return torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, 4.0]])

    plain = Encoder(Means(), (0, 0, 0), (1, 1, 1), embed_texts=texts)
    monkeypatch.setattr(module, "load_encoder", lambda settings: plain)
    settings = EmbedCells(size_px=40, background="keep", prompt="the <name> here")
    expected = [np.random.default_rng(k).integers(0, 256, (40, 40, 3), np.uint8).mean(axis=(0, 1)) for k in range(5)]
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(embedded(folder, settings), expected / lengths, atol=1e-5)
    prompts = PROMPTS.read(folder / "p.parquet")
    assert prompts["code"].tolist() == ["BA", "LY"], "in the order of the classes"
    assert np.allclose(np.stack(prompts["embedding"].to_list()), [[0, 1, 0], [0.6, 0, 0.8]])


def test_what_is_outside_the_cell_can_be_white(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corner = Encoder(nn.Sequential(nn.MaxPool2d(1), nn.Flatten()), (0, 0, 0), (1, 1, 1))
    monkeypatch.setattr(module, "load_encoder", lambda settings: corner)
    white = embedded(folder, EmbedCells(size_px=40, background="white")).reshape(5, 3, 40, 40)
    kept = embedded(folder, EmbedCells(size_px=40, background="keep")).reshape(5, 3, 40, 40)
    assert np.ptp(white[:, :, :10], axis=(1, 2, 3)).max() == 0 and np.ptp(kept[:, :, :10], axis=(1, 2, 3)).min() > 0


@pytest.mark.parametrize("prompt", ["a cell", "a <name> <name>", "a <nam>", "{name}", "{0} <name>"])
def test_a_prompt_has_the_name_once(prompt: str) -> None:
    with pytest.raises(ValueError, match="prompt"):
        EmbedCells(prompt=prompt)
