"""What timm_networks and pretrained do beyond branch A's backbones: tests/classify/test_backbones.py has the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from buffycoat.core.errors import InputError
from buffycoat.nets.pretrained import Keys, classifier_names, create_network, hub_folder, load_body, try_size

KEYS = Keys("embed.embed_cells.encoder", "embed.embed_cells.weights", "embed.embed_cells.size_px", local="timm:")
NAME = "vit_tiny_patch16_224"


def test_a_network_without_classifier_takes_any_files_body(tmp_path: Path) -> None:
    torch.manual_seed(0)
    donor = timm.create_model(NAME, num_classes=7, img_size=32)
    save_file({k: v.contiguous() for k, v in donor.state_dict().items()}, tmp_path / "w.safetensors")
    network = create_network(NAME, {}, 0, 32, KEYS)
    # timm's classifier is gone, but a file's own is known by the names of a network that has one.
    load_body(network, tmp_path / "w.safetensors", set(classifier_names(donor)), KEYS)
    x = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        expected = donor.eval().forward_head(donor.forward_features(x), pre_logits=True)
        assert torch.allclose(network.eval()(x), expected, atol=1e-6)


def test_errors_name_the_settings_of_the_stage_that_asks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^embed\.embed_cells\.encoder: timm cannot build 'nonsense'"):
        create_network("nonsense", {}, 0, 32, KEYS)
    with pytest.raises(InputError, match=r"^embed\.embed_cells\.size_px: .*patches of 16 pixels.*set 32 or 48"):
        try_size(create_network(NAME, {}, 0, 32, KEYS), NAME, 40, None, KEYS)
    with pytest.raises(InputError, match=r"embed\.embed_cells\.encoder: timm:"):
        load_body(create_network(NAME, {}, 0, 32, KEYS), tmp_path, set(), KEYS)
    with pytest.raises(InputError, match=r"nowhere: no config\.json and no model\.safetensors"):
        hub_folder(f"local-dir:{tmp_path}/nowhere", KEYS)
    save_file({"head.weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="does not fit the encoder") as caught:
        load_body(create_network(NAME, {}, 0, 32, KEYS), tmp_path / "w.safetensors", set(), KEYS)
    assert "backbone" not in str(caught.value)


def test_any_width_of_features_is_taken_but_no_map() -> None:
    network = create_network("resnet10t", {}, 0, None, KEYS)
    try_size(network, "resnet10t", 32, None, KEYS)
    network.reset_classifier(0, "")  # type: ignore[operator]
    with pytest.raises(InputError, match=r"gives \(1, 512, 1, 1\) for an image"):
        try_size(network, "resnet10t", 32, None, KEYS)
