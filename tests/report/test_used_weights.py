from __future__ import annotations

from pathlib import Path

from buffycoat.core.files import sha256_of
from buffycoat.report.write_provenance import configured_weights, named_weights, packaged_weights


def test_settings_that_name_weights_are_found_wherever_they_stand(tmp_path: Path) -> None:
    settings = {
        "crop": {"crop_cells": {"weights": "weights/cpsam", "method": "cellpose"}},
        "classify": {"train_fold": {"weights": "embedded", "backbone": "swin_tiny_patch4_window7_224"}},
        "embed": {"embed_cells": {"weights": None, "encoder": "timm:1aurent/vit_small_patch14_224.dinobloom"}},
    }
    assert dict(named_weights(settings)) == {
        "crop.crop_cells.weights": "weights/cpsam",
        "embed.embed_cells.encoder": "1aurent/vit_small_patch14_224.dinobloom",
    }
    folder = {"backbone": f"local-dir:{tmp_path}", "encoder": "efficientnet_lite0"}
    assert dict(named_weights({"train_fold": folder})) == {"train_fold.backbone": f"local-dir:{tmp_path}"}


def test_a_folder_s_weights_and_configuration_are_hashed(tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json", "README.md"):
        (tmp_path / name).write_text(name)
    found = configured_weights({"embed_cells": {"weights": str(tmp_path), "encoder": f"timm:{tmp_path}"}})
    wanted = {name: sha256_of(tmp_path / name) for name in ("config.json", "model.safetensors")}
    assert found["embed_cells.weights"]["files"] == found["embed_cells.encoder"]["files"] == wanted


def test_an_id_of_the_hub_that_is_not_in_the_cache_is_told(tmp_path: Path) -> None:
    found = configured_weights({"embed_cells": {"encoder": "open_clip:nobody/nothing-here@main"}})
    assert found["embed_cells.encoder"]["files"] == {} and "not there" in found["embed_cells.encoder"]["missing"]


def test_the_packaged_weights_are_those_of_both_packages() -> None:
    found = packaged_weights()
    assert len(found) == 2 and all(len(digest) == 64 for digest in found.values())
