"""Damaged files of every kind that stages hand on: named in an error, never used."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

import buffycoat.data.tables
from buffycoat.classify.crops import Crops
from buffycoat.core.errors import InputError
from buffycoat.core.files import close_seal, is_whole
from buffycoat.crop.segmenter import load_network
from buffycoat.data.images import CellImages, Pixels, ShardWriter
from buffycoat.data.tables.restore import CELLS
from buffycoat.data.tables.schema import Table
from buffycoat.nets.training import Checkpoint
from buffycoat.nets.weights import read_weights, write_weights
from tests.faults.steps_run import one_line
from tests.pipeline.workflow_run import Finished

TABLES = {
    found.name: found
    for module in pkgutil.iter_modules(buffycoat.data.tables.__path__)
    for found in vars(importlib.import_module(f"buffycoat.data.tables.{module.name}")).values()
    if isinstance(found, Table)
}


def damaged(path: Path, flips: int, seed: int) -> Iterator[str]:
    """Damage a file in seeded ways, one at a time, saying how; the file is whole again at the end."""
    whole, chance = path.read_bytes(), random.Random(seed)
    try:
        for _ in range(flips):
            place, bit = chance.randrange(len(whole)), chance.randrange(8)
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            yield f"bit {bit} of byte {place}"
        place = chance.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes(min(512, len(whole) - place)) + whole[place + 512 :])
        yield f"zeros from {place}"
        path.write_bytes(whole[:place])
        yield f"cut at {place}"
        path.write_bytes(whole + b"\0")
        yield "a byte too many"
    finally:
        path.write_bytes(whole)


def test_every_table_of_a_run_is_refused_with_one_bit_flipped(undisturbed: Finished, tmp_path: Path) -> None:
    kinds = set()
    for number, stored in enumerate(sorted((undisturbed.project.folder / "results").rglob("*.parquet"))):
        path = tmp_path / f"{number}_{stored.name}"
        path.write_bytes(stored.read_bytes())
        kind = pq.read_schema(path).metadata[b"buffycoat.table"].decode()
        whole = TABLES[kind].read(path)
        for how in damaged(path, 12, number):
            with pytest.raises(InputError, match=re.escape(str(path))):
                TABLES[kind].read(path)
                pytest.fail(how)
        pd.testing.assert_frame_equal(TABLES[kind].read(path), whole)
        kinds.add(kind)
    assert len(kinds) >= 20


def test_a_bit_of_a_table_flipped_anywhere_is_seen(tmp_path: Path) -> None:
    """Also in the footer, where a class's name could become another's."""
    path = tmp_path / "small.parquet"
    table = TABLES["probabilities"]
    frame = pd.DataFrame({"image_id": ["a", "b"], "source": "test", "SNE": [0.5, 1.0], "LY": [0.5, 0.0]})
    table.write(frame[[c.name for c in table.columns] + ["SNE", "LY"]], path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError):
            table.read(path)


def same_tensors(found: dict[str, torch.Tensor], whole: dict[str, torch.Tensor]) -> bool:
    return found.keys() == whole.keys() and all(torch.equal(found[name], whole[name]) for name in whole)


def test_all_weights_of_a_run_are_refused_with_one_bit_flipped(undisturbed: Finished, tmp_path: Path) -> None:
    stored = sorted((undisturbed.project.folder / "results").rglob("*.safetensors"))
    assert {path.name for path in stored} >= {
        "segmenter.safetensors", "generator.safetensors", "model.safetensors", "heads.safetensors",
    }  # fmt: skip
    for number, source in enumerate(stored):
        path = tmp_path / f"{number}_{source.name}"
        path.write_bytes(source.read_bytes())
        for how in damaged(path, 20, number):
            with pytest.raises(InputError, match=re.escape(str(path))):
                read_weights(path)
                pytest.fail(how)


def test_a_bit_of_a_weights_file_flipped_anywhere_is_seen_or_changes_nothing(tmp_path: Path) -> None:
    path, state = tmp_path / "w.safetensors", {"w": torch.arange(3.0), "b": torch.tensor(True)}
    about = {"classes": ["BA", "é"], "settings": {"width": 3}}
    write_weights(state, about, path)
    whole = path.read_bytes()
    harmless = []
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            tensors, told = read_weights(path)
        except InputError as problem:
            assert str(path) in str(problem)
        else:
            assert same_tensors(tensors, state) and told == about
            harmless.append(place)
    mark = whole.find(b"buffycoat.sha256:")
    assert set(harmless) <= set(range(mark, mark + 17)), "the mark itself, of which nothing depends"


def test_weights_of_another_maker_and_those_of_the_package_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2)}, tmp_path / "foreign.safetensors", {"format": "pt"})
    tensors, about = read_weights(tmp_path / "foreign.safetensors")
    assert tensors["w"].tolist() == [1, 1] and about == {}
    assert is_whole(tmp_path / "foreign.safetensors") is None
    assert sum(tensor.numel() for tensor in load_network().state_dict().values()) > 10**6


def test_weights_may_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    write_weights({"w": torch.ones(1)}, {}, tmp_path / "w.safetensors")
    (tmp_path / "plain").touch()
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_damaged_checkpoint_is_not_continued_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = torch.nn.Linear(5, 4)
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 5)).sum().backward()
    optimiser.step()
    state: dict[str, Any] = {
        "model": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "done": 3,
        "none": None,
    }
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", "stamp")
    checkpoint.save(state)
    caplog.set_level(logging.INFO)
    for how in damaged(checkpoint.path, 150, 7):
        caplog.clear()
        found = checkpoint.load()
        if found is None:
            assert "checkpoint.safetensors" in caplog.text and "starting anew" in caplog.text, how
        else:
            assert found["done"] == 3 and same_tensors(found["model"], state["model"]), how
    assert checkpoint.load() is not None


@pytest.fixture()
def cells(tmp_path: Path) -> tuple[Path, Pixels]:
    """A table of nine cells in two shards, and their crops."""
    rng = np.random.default_rng(1)
    crops = rng.integers(0, 256, (9, 8, 8, 3), np.uint8)
    rows = []
    with ShardWriter(tmp_path / "shards", 8, rows_per_shard=5, rows_per_batch=2) as writer:
        for k in range(9):
            shard, row, crc = writer.add(f"{k}.png", crops[k], rng.integers(0, 3, (8, 8), np.uint8))
            rows.append({"image_id": f"{k}.png", "shard": f"shards/{shard}", "shard_row": row, "crc32": crc})
    frame = pd.DataFrame(rows).assign(
        restored=False, noise_before=1.0, noise_after=np.nan, nucleus_change=np.nan, cell_change=np.nan, reason="clean"
    )
    CELLS.write(frame, tmp_path / "cells.parquet")
    return tmp_path / "cells.parquet", crops


def test_a_damaged_shard_is_named_or_every_pixel_of_it_is_right(cells: tuple[Path, Pixels]) -> None:
    table, crops = cells
    frame = CELLS.read(table)
    seen = 0
    for shard in sorted((table.parent / "shards").iterdir()):
        for how in damaged(shard, 200, 3):
            try:
                found = [crop for _, crop, _ in CellImages(frame, table)]
            except InputError as problem:
                assert str(shard) in str(problem), how
                seen += 1
            else:
                assert np.array_equal(found, crops), how
    assert seen > 200, "most of a shard is pixels"


def test_no_training_sees_a_damaged_pixel(cells: tuple[Path, Pixels]) -> None:
    table, crops = cells
    path = table.parent / "shards" / "00001.arrow"
    content = path.read_bytes()
    place = content.find(crops[6].tobytes())
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    source = Crops.read(table, "original", 8, torch.device("cpu"))
    assert np.array_equal(source.pixels([0, 8]).numpy(), crops[[0, 8]])
    with pytest.raises(InputError, match=r"00001\.arrow: the pixels of '6\.png' do not match"):
        source.batch([5, 6])


def test_a_step_ends_with_one_line_that_names_the_damaged_file(undisturbed: Finished, tmp_path: Path) -> None:
    from tests.faults.steps_run import run_words

    words = undisturbed.commands["combine_folds"]
    (place,) = (word for word in words if word.endswith("fold_1/logits.parquet"))
    logits = undisturbed.project.folder / place
    content = bytearray(logits.read_bytes())
    content[len(content) // 3] ^= 16
    (tmp_path / "logits.parquet").write_bytes(bytes(content))
    moved = [str(tmp_path / "logits.parquet") if word.endswith("fold_1/logits.parquet") else word for word in words]
    moved = [str(tmp_path / Path(word).name) if word.endswith(("probabilities.parquet", "calibration.json")) else word
             for word in moved]  # fmt: skip
    said = one_line(run_words(moved, undisturbed.project.folder))
    assert f"{tmp_path / 'logits.parquet'}: damaged table" in said and "run again" in said
    assert [path.name for path in tmp_path.iterdir()] == ["logits.parquet"]


def test_a_seal_needs_a_place(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no mark in here")
    with pytest.raises(ValueError, match="no open seal"):
        close_seal(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"")
    assert is_whole(tmp_path / "x") is None
