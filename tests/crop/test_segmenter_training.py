from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from buffycoat.core.errors import InputError, Interrupted
from buffycoat.crop import train_segmenter as step_module
from buffycoat.crop.segmenter import MAPS, SIDE_PX, load_network
from buffycoat.crop.segmenter_samples import MaskedImage, masked_image, restain, sample_of, source_of
from buffycoat.crop.segmenter_training import SegmenterTraining, map_loss, rate_at
from buffycoat.crop.settings import TrainSegmenter
from buffycoat.crop.train_segmenter import divide, train_segmenter
from buffycoat.data.random import stream
from buffycoat.data.tables.crop import SEGMENTER_HISTORY
from tests.crop.drawing import add_cell, field


def levels_of(image: np.ndarray, row: int, col: int, radius: int) -> np.ndarray:
    cell = add_cell(image, row, col, radius)
    nucleus = np.zeros_like(cell)
    cv2.circle(nucleus, (col, row), int(radius * 0.6), 1, -1)
    return np.where(nucleus > 0, 255, cell * 128).astype(np.uint8)


def one_image(seed: int = 0, marked: bool = True) -> MaskedImage:
    image = field(160, red_cells=5, seed=seed)
    return masked_image("x", image, levels_of(image, 80, 85, 30), marked)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for k in range(6):
        image = field(120, red_cells=4, seed=k)
        cv2.imwrite(str(tmp_path / f"{k}_mask.png"), levels_of(image, 60, 55 + k, 24))
        cv2.imwrite(str(tmp_path / f"{k}.png"), image[..., ::-1])
    (tmp_path / "masks.csv").write_text("image,mask\n" + "".join(f"{k}.png,{k}_mask.png\n" for k in range(6)))
    return tmp_path / "masks.csv"


def test_a_sample_depends_on_seed_step_and_place_alone() -> None:
    sources = [[source_of(one_image(k)) for k in range(3)]]
    first, again, other = (sample_of(sources, 1, step, 2) for step in (5, 5, 6))
    assert np.array_equal(first.view, again.view) and np.array_equal(first.maps, again.maps)
    assert not np.array_equal(first.view, other.view)


def test_samples_hold_what_they_promise() -> None:
    sources = [[source_of(one_image(0))], [source_of(one_image(1, marked=False))]]
    samples = [sample_of(sources, 1, 0, place) for place in range(60)]
    for sample in samples:
        assert sample.view.shape == (SIDE_PX, SIDE_PX, 3) and 0 <= sample.view.min() and sample.view.max() <= 1
        assert sample.maps.shape == sample.weights.shape == (len(MAPS), SIDE_PX, SIDE_PX)
        cell, nucleus, core = sample.maps
        assert (nucleus <= cell).all() and (core <= cell).all()
    # Where nobody drew nuclei, some pixels of the cell are in doubt.
    in_doubt = [bool((sample.weights[1] < sample.weights[0]).any()) for sample in samples]
    assert 0.2 < np.mean(in_doubt) < 0.8
    share = [sample.maps[0].mean() for sample in samples]
    assert max(share) > 0.3 and 0.03 < np.mean([each == 0 for each in share]) < 0.5


def test_restaining_changes_colours_and_not_places() -> None:
    view = np.full((SIDE_PX, SIDE_PX, 3), 0.9, np.float32)
    cells = np.zeros((SIDE_PX, SIDE_PX), np.int32)
    cells[40:80, 40:80] = 1
    view[cells > 0] = (0.6, 0.5, 0.8)
    found = [restain(stream(1, k), view, cells, cells > 5) for k in range(30)]
    assert np.std([image[60, 60] for image in found], axis=0).min() > 0.02
    for image in found:
        # Within a region, away from its edges, one colour stays one colour.
        assert np.ptp(image[50:70, 50:70].reshape(-1, 3), axis=0).max() < 1e-4


def test_the_loss_is_nothing_for_sure_and_right_and_ignores_what_does_not_count() -> None:
    maps = (torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    weights = torch.ones_like(maps)
    right = (maps - 0.5) * 60
    assert float(map_loss(right, maps, weights)) < 1e-3
    assert float(map_loss(-right, maps, weights)) > 10
    weights[:, 1] = 0
    wrong_there = right.clone()
    wrong_there[:, 1] *= -1
    assert float(map_loss(wrong_there, maps, weights)) < 1e-3


def test_the_loss_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 4, 4, generator=generator)
    maps = (torch.rand(2, 3, 4, 4, generator=generator) > 0.5).float()
    weights = (torch.rand(2, 3, 4, 4, generator=generator) > 0.3).float()
    expected = 0.0
    for k in range(3):
        keep = weights[:, k] > 0
        p, t = logits[:, k][keep].sigmoid(), maps[:, k][keep]
        bce = -(t * p.log() + (1 - t) * (1 - p).log()).mean()
        dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
        expected += float(bce + dice) / 3
    assert float(map_loss(logits, maps, weights)) == pytest.approx(expected, rel=1e-5)


def test_the_rate_rises_and_falls_to_nothing() -> None:
    settings = TrainSegmenter(steps=100)
    rates = [rate_at(step, settings) for step in range(101)]
    assert max(rates) == 1 and rates[0] < 0.5 and rates[100] == pytest.approx(0)
    assert all(a >= b for a, b in zip(rates[5:], rates[6:], strict=False))


def test_training_lowers_the_loss_on_what_it_sees() -> None:
    settings = TrainSegmenter(steps=12, batch=4, learning_rate=2e-3)
    torch.manual_seed(0)
    training = SegmenterTraining(load_network(), settings, 1, torch.device("cpu"))
    torch.nn.init.zeros_(training.network.segmentation_head[0].weight)
    sources = [[source_of(one_image(k)) for k in range(2)]]
    losses = [training.step(sources, number) for number in range(12)]
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:2])


def test_held_out_images_are_never_learnt_from_and_one_is_always_left() -> None:
    images = [one_image(k) for k in range(10)]
    fit, held = divide(images, 0.25, 1, "a")
    assert len(held) == 3 and len(fit) == 7 and not {id(x) for x in fit} & {id(x) for x in held}
    assert divide(images, 0.0, 1, "a")[1] == [] and len(divide(images[:1], 0.9, 1, "a")[0]) == 1


SHORT = TrainSegmenter(masks=("masks.csv",), steps=4, batch=2, held_out=0.3)


def run_to(folder: Path, table: Path, settings: TrainSegmenter = SHORT) -> bytes:
    folder.mkdir(exist_ok=True)
    train_segmenter(
        masks=[table], segmenter=folder / "s.safetensors", history=folder / "h.parquet", seed=1, settings=settings
    )
    return (folder / "s.safetensors").read_bytes()


def test_an_interrupted_training_ends_with_the_same_bytes(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = run_to(tmp_path / "straight", table)
    steps = 0
    original = SegmenterTraining.step

    def killed(self: SegmenterTraining, sources: object, number: int) -> float:
        nonlocal steps
        steps += 1
        if steps == 4:
            raise KeyboardInterrupt
        return original(self, sources, number)  # type: ignore[arg-type]

    monkeypatch.setattr(SegmenterTraining, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        run_to(tmp_path / "broken", table)
    assert (tmp_path / "broken" / "segmenter_checkpoint.safetensors").exists()
    assert run_to(tmp_path / "broken", table) == straight
    assert steps == 4 + 1, "the second run starts after the checkpoint, not from the beginning"
    history = SEGMENTER_HISTORY.read(tmp_path / "broken" / "h.parquet")
    assert history["step"].tolist() == [1, 2, 3, 4] and history["cell_iou"].between(0, 1).all()
    assert not (tmp_path / "broken" / "segmenter_checkpoint.safetensors").exists()


def test_a_signal_between_two_reports_costs_nothing(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_module, "report_steps", lambda steps: 3)
    straight = run_to(tmp_path / "straight", table)
    step = SegmenterTraining.step

    def step_and_signal(self: SegmenterTraining, sources: object, number: int) -> float:
        if number == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, sources, number)  # type: ignore[arg-type]

    monkeypatch.setattr(SegmenterTraining, "step", step_and_signal)
    with pytest.raises(Interrupted, match="SIGTERM: the state is stored"):
        run_to(tmp_path / "halted", table)
    monkeypatch.setattr(SegmenterTraining, "step", step)
    assert run_to(tmp_path / "halted", table) == straight
    tables = [SEGMENTER_HISTORY.read(tmp_path / name / "h.parquet") for name in ("halted", "straight")]
    pd.testing.assert_frame_equal(*tables)
    assert tables[0]["step"].tolist() == [3, 4]


def test_what_was_trained_can_be_used(table: Path, tmp_path: Path) -> None:
    run_to(tmp_path / "made", table)
    from buffycoat.crop.embedded_method import segment_by_network
    from buffycoat.nets.weights import read_weights

    network = load_network(tmp_path / "made" / "s.safetensors")
    assert segment_by_network(network, [field(120)], 0.004, 0.35)[0][0].shape == (120, 120)
    about = read_weights(tmp_path / "made" / "s.safetensors")[1]
    assert json.loads(json.dumps(about))["images"] == [4]


def test_no_masks_are_an_error_that_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"crop\.train_segmenter\.masks"):
        train_segmenter(masks=[], segmenter=tmp_path / "s", history=tmp_path / "h", seed=1, settings=TrainSegmenter())
    assert step_module.__doc__
