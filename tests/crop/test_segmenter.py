from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from buffycoat.core.errors import InputError
from buffycoat.crop.segmenter import (
    MAPS,
    SIDE_PX,
    build_network,
    half_precision,
    imagenet_network,
    load_network,
    predict_maps,
    shipped_weights,
)
from buffycoat.nets.pretrained import efficientnet_lite0
from buffycoat.nets.weights import read_weights, write_weights


def views(number: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.random((SIDE_PX, SIDE_PX, 3), dtype=np.float32) for _ in range(number)]


def test_the_shipped_weights_fit_the_package() -> None:
    with shipped_weights() as path:
        assert path.stat().st_size <= 12e6
        tensors, about = read_weights(path)
    assert set(tensors) == set(build_network().state_dict())
    assert about["settings"]["steps"] > 0 and about["held_out"]["cell_iou"] > 0.8


def test_damaged_shipped_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buffycoat.crop.segmenter.SHIPPED_SHA256", "0" * 64)
    with pytest.raises(InputError, match="not the file that this version was released with"):
        load_network()


def test_the_encoder_starts_as_the_embedded_backbone() -> None:
    ours = imagenet_network().encoder.model.state_dict()
    whole = efficientnet_lite0(0).state_dict()
    assert ours and all(torch.equal(tensor, whole[name]) for name, tensor in ours.items())


def test_half_precision_storage_keeps_the_maps(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network().eval()
    write_weights(half_precision(network), {"note": "kept"}, tmp_path / "s.safetensors")
    again = load_network(tmp_path / "s.safetensors")
    assert np.abs(predict_maps(network, views(2)) - predict_maps(again, views(2))).max() < 0.03
    assert read_weights(tmp_path / "s.safetensors")[1] == {"note": "kept"}


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    state = build_network().state_dict()
    state.pop("segmentation_head.0.bias")
    state["stranger"] = torch.zeros(1)
    write_weights(state, {}, tmp_path / "s.safetensors")
    with pytest.raises(
        InputError, match=r"missing or misshapen \['segmentation_head.0.bias'\], surplus \['stranger'\]"
    ):
        load_network(tmp_path / "s.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "s.safetensors").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cut\.safetensors"):
        load_network(tmp_path / "cut.safetensors")
    with pytest.raises(InputError, match="no such weights file"):
        load_network(tmp_path / "none.safetensors")


def test_maps_have_the_stated_shape_and_range() -> None:
    maps = predict_maps(load_network(), views(3), batch=2)
    assert maps.shape == (3, len(MAPS), SIDE_PX, SIDE_PX) and maps.dtype == np.float32
    assert maps.min() >= 0 and maps.max() <= 1
