"""The manifest of a bundle: what is refused, and that nothing but InputError comes out of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffycoat.bundle import form
from buffycoat.bundle.form import Manifest, check_parts, digest_of, outside_of, read_manifest
from buffycoat.core.errors import InputError
from buffycoat.core.files import sha256_of, write_json

CONTENT: dict[str, Any] = {
    "format": 2, "name": "n", "note": "", "buffycoat": "0.1.0", "code": "c", "seed": 1, "recipe": "focal",
    "folds": [0, 1],
    "classes": ["LY", "SNE"], "settings": {}, "outside": {}, "versions": {}, "training": {}, "scores": {},
    "usual": {"images": 9, "diameter_px": None, "ranges": {}, "shares": {}},
}  # fmt: skip
NAMES = ["classes.parquet", "threshold.json", "calibration.json", "rules.json", "heads.safetensors",
         "familiar.safetensors", "fold_0.safetensors", "fold_1.safetensors"]  # fmt: skip


def write_bundle(folder: Path, **changed: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        (folder / name).write_text(f"content of {name}")
    files = {name: {"sha256": sha256_of(folder / name), "bytes": (folder / name).stat().st_size} for name in NAMES}
    write_json({**CONTENT, "files": files, **changed}, folder / "bundle.json")
    return folder


def test_a_whole_bundle_is_accepted(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b")
    manifest = read_manifest(folder)
    check_parts(folder, manifest)
    assert manifest.folds == (0, 1) and sorted(manifest.files) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_byte_a_missing_file_and_a_link_are_named(tmp_path: Path, name: str) -> None:
    folder = write_bundle(tmp_path / "b")
    data = bytearray((folder / name).read_bytes())
    data[3] ^= 1
    (folder / name).write_bytes(bytes(data))
    with pytest.raises(InputError, match=f"{name}: not the file that was packed"):
        check_parts(folder, read_manifest(folder))
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name}: missing from the bundle"):
        check_parts(folder, read_manifest(folder))
    (folder / name).symlink_to("/etc/hostname")
    with pytest.raises(InputError, match=f"{name}: missing from the bundle"):
        check_parts(folder, read_manifest(folder))


def test_a_needed_file_must_be_listed(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", folds=[0, 1, 2])
    with pytest.raises(InputError, match="lists no fold_2.safetensors"):
        check_parts(folder, read_manifest(folder))


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", ".hidden", "bundle.json", "", "a\nb", "a\\b"])
def test_files_are_plain_names(tmp_path: Path, name: str) -> None:
    folder = write_bundle(tmp_path / "b", files={name: {"sha256": "0" * 64, "bytes": 1}})
    with pytest.raises(InputError, match="is not a plain file name"):
        read_manifest(folder)


def test_what_is_no_bundle_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="no such folder; a bundle is the folder that `buffycoat run my.yaml -- pack_bundle` writes"
    ):
        read_manifest(tmp_path / "none")
    with pytest.raises(InputError, match="bundle.json: no such file"):
        read_manifest(tmp_path)
    folder = write_bundle(tmp_path / "b", format=3)
    with pytest.raises(InputError, match="format 3 is newer than this version of buffycoat; update it"):
        read_manifest(folder)
    folder = write_bundle(tmp_path / "b", format=1)
    older = (
        r"format 1, packed by buffycoat 0.1.0, lacks .* pack it anew \(snakemake pack_bundle\), or use buffycoat 0.1.0"
    )
    with pytest.raises(InputError, match=older):
        read_manifest(folder)
    folder = write_bundle(tmp_path / "b", surprise=1)
    with pytest.raises(InputError, match="surprise: unknown setting"):
        read_manifest(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(key=st.sampled_from([*CONTENT, "files", "other"]), value=JSON, cut=st.none() | st.integers(0, 400))
def test_whatever_the_manifest_holds_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any, cut: int | None
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    text = json.dumps({**CONTENT, "files": {}, key: value})
    (folder / "bundle.json").write_text(text if cut is None else text[:cut])
    try:
        manifest = read_manifest(folder)
        check_parts(folder, manifest)
    except InputError as problem:
        assert "bundle.json" in str(problem)
    else:
        raise AssertionError("a bundle without files was accepted")


def test_digests_of_folders_follow_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("1")
    (tmp_path / "w.safetensors").write_text("2")
    before = digest_of(tmp_path)
    (tmp_path / "README.md").write_text("not weights")
    assert digest_of(tmp_path) == before
    (tmp_path / "a.json").write_text("3")
    assert digest_of(tmp_path) != before
    assert digest_of(tmp_path / "a.json") == sha256_of(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("crop", "embed", "expected"),
    [
        ({}, {}, {}),
        ({"weights": "cpsam"}, {}, {"crop.crop_cells.weights": "cpsam"}),
        ({"weights": "cpsam", "method": "stain"}, {}, {}),
        ({}, {"encoder": "medsiglip", "weights": "w/s"}, {"embed.embed_cells.weights": "w/s"}),
        ({}, {"encoder": "timm:1aurent/dino"}, {"embed.embed_cells.encoder": "1aurent/dino"}),
    ],
)
def test_what_lies_outside(crop: dict[str, Any], embed: dict[str, Any], expected: dict[str, str]) -> None:
    made = {
        "crop.crop_cells": {"method": "auto", "weights": None, **crop},
        "embed.embed_cells": {"encoder": "efficientnet_lite0", "weights": None, **embed},
    }
    assert outside_of(made) == expected


def test_the_manifest_survives_its_own_json() -> None:
    manifest = Manifest.model_validate({**CONTENT, "files": {"a": {"sha256": "0" * 64, "bytes": 3}}})
    assert Manifest.model_validate(json.loads(json.dumps(manifest.model_dump(mode="json")))) == manifest
    assert form.fold_file(3) == "fold_3.safetensors"
