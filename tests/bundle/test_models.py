"""Weights that a bundle does not hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from buffycoat.bundle.form import Manifest
from buffycoat.bundle.models import replaced
from buffycoat.core.errors import InputError
from buffycoat.core.files import sha256_of
from tests.bundle.test_form import CONTENT


def manifest(path: Path, sha256: str | None, key: str = "embed.embed_cells.weights", encoder: str = "x") -> Manifest:
    embed = {"encoder": encoder, "weights": str(path)}
    return Manifest.model_validate(
        {
            **CONTENT,
            "files": {},
            "settings": {"embed.embed_cells": embed},
            "outside": {key: {"path": str(path), "sha256": sha256}},
        }
    )


def test_weights_stay_where_they_were_or_come_from_where_is_said(tmp_path: Path) -> None:
    packed, copied = tmp_path / "packed", tmp_path / "copied"
    packed.write_text("w")
    copied.write_text("w")
    asked = manifest(packed, sha256_of(packed))
    assert replaced(asked, {})["embed.embed_cells"]["weights"] == str(packed)
    packed.unlink()
    moved = replaced(asked, {"embed.embed_cells.weights": copied})
    assert moved["embed.embed_cells"]["weights"] == str(copied)
    assert asked.settings["embed.embed_cells"]["weights"] == str(packed)


def test_missing_other_and_unasked_weights_are_refused(tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.write_text("w")
    asked = manifest(packed, sha256_of(packed))
    packed.write_text("v")
    with pytest.raises(InputError, match="packed: not the weights that the bundle was made with"):
        replaced(asked, {})
    packed.unlink()
    with pytest.raises(InputError, match="give --weights embed.embed_cells.weights=PATH"):
        replaced(asked, {})
    with pytest.raises(InputError, match=r"--weights a.b: .* \(it asks for: embed.embed_cells.weights\)"):
        replaced(asked, {"a.b": packed})


def test_an_encoder_keeps_its_kind_and_a_hub_id_is_left_to_the_cache(tmp_path: Path) -> None:
    key = "embed.embed_cells.encoder"
    asked = manifest(Path("owner/name"), None, key, "timm:owner/name")
    assert replaced(asked, {})["embed.embed_cells"]["encoder"] == "timm:owner/name"
    assert replaced(asked, {key: tmp_path})["embed.embed_cells"]["encoder"] == f"timm:{tmp_path}"
