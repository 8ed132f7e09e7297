from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from buffycoat.core.errors import InputError
from buffycoat.core.files import sha256_of
from buffycoat.crop import cellpose_method
from buffycoat.crop.cellpose_training import fine_tune_cellpose, with_flows
from buffycoat.crop.cellpose_weights import build_network, load_network
from buffycoat.crop.crop_cells import crop_cells
from buffycoat.crop.segmenter import network_kind
from buffycoat.crop.settings import CropCells, TrainSegmenter
from buffycoat.crop.train_segmenter import train_segmenter
from buffycoat.data.tables.crop import CROPS, SEGMENTER_HISTORY
from buffycoat.data.tables.index import IMAGES
from buffycoat.nets.weights import write_weights
from tests.crop.cellpose_stubs import drawn_labels, flows_and_logit, same_cells, small_encoder
from tests.crop.drawing import add_cell, field

CPU = torch.device("cpu")


@pytest.fixture()
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small_encoder(monkeypatch)
    torch.manual_seed(0)
    build_network().save_model(tmp_path / "cpsam")
    return tmp_path / "cpsam"


def fields(count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    labels = [drawn_labels(140, 150, seed, 4) for seed in range(count)]
    rng = np.random.default_rng(0)
    images = [np.where(cells[..., None] > 0, [120, 60, 150], [240, 235, 230]) for cells in labels]
    return [(image + rng.integers(0, 12, image.shape)).astype(np.uint8) for image in images], labels


def train(
    weights: Path, seed: int = 1, epochs: int = 14, **changed: object
) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    images, labels = fields(4)
    options = {"side_px": 240, "batch": 2, "learning_rate": 3e-3, "weight_decay": 0.01, "device": CPU, **changed}
    return fine_tune_cellpose(images, labels, weights, epochs=epochs, seed=seed, **options)


def test_the_loss_falls_and_the_result_loads_again(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    state, losses = train(weights)
    assert sorted(tmp_path.iterdir()) == before, "nothing is left behind"
    assert losses.shape == (14,) and losses[-3:].mean() < 0.8 * losses[:3].mean()
    write_weights(state, {"method": "cellpose"}, tmp_path / "own.safetensors")
    loaded = load_network(tmp_path / "own.safetensors", CPU).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    started = load_network(weights, CPU).state_dict()
    assert not torch.equal(started["out.weight"], state["out.weight"])
    assert torch.equal(started["W2"], state["W2"]), "the fixed rearrangement stays what it is"


def test_the_same_seed_gives_the_same_tensors_and_another_seed_others(weights: Path) -> None:
    np.random.seed(5)
    first, _ = train(weights, seed=1, epochs=3)
    drawn = np.random.random()
    np.random.seed(5)
    assert np.random.random() == drawn, "the caller's random state is left alone"
    torch.manual_seed(99)
    second, _ = train(weights, seed=1, epochs=3)
    other, _ = train(weights, seed=2, epochs=3)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_an_image_without_cells_is_learnt_from_too(weights: Path) -> None:
    images, labels = fields(1)
    images.append(np.full((120, 130, 3), 240, np.uint8))
    labels.append(np.zeros((120, 130), np.int32))
    state, losses = fine_tune_cellpose(
        images, labels, weights,
        side_px=240, epochs=2, batch=1, learning_rate=1e-3, weight_decay=0.0, device=CPU, seed=0,
    )  # fmt: skip
    assert np.isfinite(losses).all() and all(torch.isfinite(tensor).all() for tensor in state.values())


def test_targets_are_the_true_flows_of_the_reduced_labels() -> None:
    labels = drawn_labels(120, 130, 2, 5)
    gappy = np.where(labels > 0, labels * 10, 0).astype(np.int32)
    target = with_flows(gappy.repeat(2, axis=0).repeat(2, axis=1), side_px=130)
    assert target.shape == (4, 120, 130) and target.dtype == np.float32
    np.testing.assert_array_equal(target[0], labels)
    np.testing.assert_array_equal(target[1], labels > 0)
    np.testing.assert_allclose(target[2:], flows_and_logit(labels)[:2] / 5, atol=1e-6)
    assert same_cells(with_flows(gappy, side_px=1000)[0].astype(np.int32), labels)
    full = with_flows(np.full((80, 80), 7, np.int32), side_px=240)
    assert (full[0] == 1).all() and np.abs(full[2:]).max() > 0.9


def test_nothing_to_learn_from_is_an_error(weights: Path) -> None:
    images, labels = fields(2)
    options = {"side_px": 240, "epochs": 1, "batch": 1, "learning_rate": 1e-3, "weight_decay": 0.0, "device": CPU}
    with pytest.raises(InputError, match="no training mask holds a cell"):
        fine_tune_cellpose(images, [0 * cells for cells in labels], weights, seed=0, **options)
    with pytest.raises(InputError, match="training image 1"):
        fine_tune_cellpose(images, [labels[0], labels[1][:50]], weights, seed=0, **options)
    with pytest.raises(ValueError, match="2 images and 1 label images"):
        fine_tune_cellpose(images, labels[:1], weights, seed=0, **options)
    with pytest.raises(InputError, match="diverged"):
        train(weights, epochs=4, learning_rate=1e30)


def test_the_rule_fine_tunes_cellpose_and_cropping_uses_it(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    for k in range(3):
        image = field(96, red_cells=2, seed=k)
        cell = add_cell(image, 48, 46 + k, 22)
        cv2.imwrite(str(tmp_path / f"{k}.png"), image[..., ::-1])
        cv2.imwrite(str(tmp_path / f"{k}_mask.png"), cell * 128)
        rows.append({"image_id": f"{k}.png", "path": str(tmp_path / f"{k}.png"), "width": 96, "height": 96,
                     "sha256": sha256_of(tmp_path / f"{k}.png")})  # fmt: skip
    (tmp_path / "masks.csv").write_text("image,mask\n" + "".join(f"{k}.png,{k}_mask.png\n" for k in range(3)))
    settings = TrainSegmenter(masks=("m",), network="cellpose", weights=str(weights), held_out=0.3, epochs=2, batch=2)
    assert settings.rate() == 1e-5
    made = tmp_path / "segmenter.safetensors"
    train_segmenter(
        masks=[tmp_path / "masks.csv"], segmenter=made, history=tmp_path / "h.parquet", seed=1, settings=settings
    )
    assert network_kind(made) == "cellpose"
    history = SEGMENTER_HISTORY.read(tmp_path / "h.parquet")
    assert history["step"].tolist() == [1, 2] and history["cell_iou"].notna().tolist() == [False, True]
    frame = pd.DataFrame(rows).assign(status="ok", role="train", split=None, reason="")
    frame[["width", "height"]] = frame[["width", "height"]].astype("Int32")
    IMAGES.write(frame, tmp_path / "images.parquet")
    used: list[Path] = []

    def loaded(path: Path, device: torch.device) -> object:
        used.append(path)
        return load_network(path, device)

    monkeypatch.setattr(cellpose_method, "load_network", loaded)
    crop_cells(
        images=tmp_path / "images.parquet", segmenter=[made], crops=tmp_path / "crops.parquet",
        shards=tmp_path / "shards", settings=CropCells(method="cellpose", window_px=80, size_px=32),
    )  # fmt: skip
    assert used == [made] and len(CROPS.read(tmp_path / "crops.parquet")) == 3
