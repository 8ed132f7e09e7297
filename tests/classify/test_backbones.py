from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from torch import nn

from buffycoat.classify.backbones import (
    build_backbone,
    classifier_names,
    early_stages,
    freeze,
    hub_folder,
    normalise,
    weights_file,
)
from buffycoat.core.errors import InputError
from buffycoat.nets.pretrained import CONVERT, MEAN, STD

SWIN_NAME, VIT_NAME = "swin_tiny_patch4_window7_224", "vit_small_patch14_dinov2"
SWIN = {"img_size": 32, "window_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4]}
DEEPER = {**SWIN, "depths": [2, 2]}
VIT = {"img_size": 56, "embed_dim": 32, "depth": 3, "num_heads": 2}
NETWORKS = [
    (SWIN_NAME, DEEPER, 32),
    (VIT_NAME, VIT, 56),
    ("tf_efficientnet_lite0", {}, 32),
    ("resnet10t", {}, 32),
    ("convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 16, 16, 16]}, 64),
]
NAMES = [name for name, _, _ in NETWORKS]


def donor(name: str = SWIN_NAME, options: dict[str, Any] = SWIN, classes: int = 9) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=classes, **options)
    # Fresh networks have zeros and ones in many places; a copy of those would prove nothing.
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1.0)
    return model


def stored(tensors: dict[str, torch.Tensor], path: Path) -> str:
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)
    return str(path)


def body(model: nn.Module) -> dict[str, torch.Tensor]:
    left_out = {*classifier_names(model), "pixel_mean", "pixel_std"}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in left_out}


def same(model: nn.Module, other: nn.Module) -> bool:
    ours, theirs = body(model), body(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


# --- names and sizes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options", "side"), NETWORKS, ids=NAMES)
def test_any_architecture_gets_a_classifier_of_its_own(name: str, options: dict[str, Any], side: int) -> None:
    model = build_backbone(name, options, None, 5, side)
    assert model.training
    assert model(torch.rand(2, 3, side, side)).shape == (2, 5)
    named = dict(model.named_parameters())
    assert sorted(named[part].shape[0] for part in classifier_names(model)) == [5, 5]


def test_names_and_options_that_timm_refuses_are_named() -> None:
    with pytest.raises(InputError, match="cannot build 'no_such_model'"):
        build_backbone("no_such_model", {}, None, 5)
    with pytest.raises(InputError, match=r"cannot build 'resnet10t' with \{'embed_dim': 3\}"):
        build_backbone("resnet10t", {"embed_dim": 3}, None, 5)
    with pytest.raises(InputError, match=r"backbone: .*hf-hub:owner/name.*local-dir:owner/name"):
        build_backbone("owner/name", {}, None, 5)


def test_a_network_of_fixed_size_is_built_for_size_px() -> None:
    model = build_backbone("vit_tiny_patch16_224", {"embed_dim": 32, "depth": 1, "num_heads": 2}, None, 5, 48)
    assert model(torch.rand(1, 3, 48, 48)).shape == (1, 5)
    with pytest.raises(AssertionError, match="Input height"):
        model(torch.rand(1, 3, 224, 224))


def test_a_size_that_the_network_refuses_stops_before_training() -> None:
    with pytest.raises(InputError, match=r"for size_px 32: Conflicting.*img_size=48"):
        build_backbone("vit_tiny_patch16_224", {"depth": 1, "img_size": 48}, None, 5, 32)
    with pytest.raises(InputError, match=r"size_px: .*patches of 14 pixels, and 60 is no multiple: set 56 or 70"):
        build_backbone(VIT_NAME, {"depth": 1}, None, 5, 60)
    assert build_backbone(VIT_NAME, {"depth": 1, "dynamic_img_size": True}, None, 5, 70)
    padded = {"depth": 1, "dynamic_img_size": True, "dynamic_img_pad": True}
    assert build_backbone(VIT_NAME, padded, None, 5, 60)
    with pytest.raises(InputError, match=r"size_px: convnext_atto does not take images of 16 pixels \(.+\)"):
        build_backbone("convnext_atto", {}, None, 5, 16)


def test_the_size_is_tried_without_a_trace() -> None:
    torch.manual_seed(3)
    untried = build_backbone("resnet10t", {}, None, 5)
    torch.manual_seed(3)
    tried = build_backbone("resnet10t", {}, None, 5, 32)
    assert tried.training and all(
        torch.equal(tensor, untried.state_dict()[name]) for name, tensor in tried.state_dict().items()
    )


# --- weights files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options", "side"), NETWORKS, ids=NAMES)
@pytest.mark.parametrize("classes", [0, 5, 9])
def test_a_file_gives_the_body_and_never_the_classifier(
    tmp_path: Path, name: str, options: dict[str, Any], side: int, classes: int
) -> None:
    theirs = donor(name, options, classes)
    path = stored(theirs.state_dict(), tmp_path / "w.safetensors")
    model = build_backbone(name, options, path, 5, side)
    kept = {key: tensor for key, tensor in theirs.state_dict().items() if key in body(model)}
    assert kept.keys() == body(model).keys()
    assert all(torch.equal(tensor, model.state_dict()[key]) for key, tensor in kept.items())
    fresh = model.state_dict()[classifier_names(model)[0]]
    assert fresh.shape[0] == 5
    assert classes != 5 or not torch.equal(fresh, theirs.state_dict()[classifier_names(model)[0]])


def test_a_model_of_ours_is_a_file_to_start_from(tmp_path: Path) -> None:
    first = build_backbone(SWIN_NAME, SWIN, stored(donor().state_dict(), tmp_path / "a.safetensors"), 3)
    again = build_backbone(SWIN_NAME, SWIN, stored(first.state_dict(), tmp_path / "b.safetensors"), 5)
    assert same(first, again)


def test_names_of_a_wrapped_network_are_taken(tmp_path: Path) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in donor().state_dict().items()}
    assert same(build_backbone(SWIN_NAME, SWIN, stored(wrapped, tmp_path / "w.safetensors"), 5), donor())


def test_missing_unknown_and_misshapen_tensors_are_all_named(tmp_path: Path) -> None:
    state = dict(donor().state_dict())
    state.pop("patch_embed.proj.weight")
    state["stray"] = torch.zeros(1)
    state["norm.bias"] = torch.zeros(7)
    bad = stored(state, tmp_path / "bad.safetensors")
    with pytest.raises(
        InputError,
        match=r"bad\.safetensors.*missing 1 \(patch_embed\.proj\.weight\), unknown 1 \(stray\), of another shape 1"
        r" \(norm\.bias \(7,\) for \(32,\)\); it is another network, or not all.*classify\.train_fold\.backbone",
    ):
        build_backbone(SWIN_NAME, SWIN, bad, 5)


def test_a_deeper_network_of_the_same_family_is_refused_both_ways(tmp_path: Path) -> None:
    deep = stored(donor(SWIN_NAME, DEEPER).state_dict(), tmp_path / "deep.safetensors")
    with pytest.raises(InputError, match=r"unknown \d+ \(layers\.0\.blocks\.1\."):
        build_backbone(SWIN_NAME, SWIN, deep, 5)
    flat = stored(donor().state_dict(), tmp_path / "flat.safetensors")
    with pytest.raises(InputError, match=r"missing \d+ \(layers\.0\.blocks\.1\."):
        build_backbone(SWIN_NAME, DEEPER, flat, 5)


@pytest.mark.parametrize(("name", "options", "side"), NETWORKS[1:], ids=NAMES[1:])
def test_another_architecture_is_refused_with_the_names(
    tmp_path: Path, name: str, options: dict[str, Any], side: int
) -> None:
    path = stored(donor(name, options).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"other\.safetensors: does not fit.*missing \d+ \(.*unknown \d+ \("):
        build_backbone(SWIN_NAME, SWIN, path, 5)
    swin = stored(donor().state_dict(), tmp_path / "swin.safetensors")
    with pytest.raises(InputError, match=r"swin\.safetensors: does not fit.*unknown \d+ \(.*layers\.0\."):
        build_backbone(name, options, swin, 5)


def test_another_librarys_names_are_called_that(tmp_path: Path) -> None:
    path = stored({"encoder.layer.0.weight": torch.ones(2, 2)}, tmp_path / "hf.safetensors")
    with pytest.raises(InputError, match=r"unknown 1 \(encoder\.layer\.0\.weight\).*in another library's names"):
        build_backbone("resnet10t", {}, path, 5)


def test_buffers_that_older_swin_files_hold_are_computed_anew(tmp_path: Path) -> None:
    state = dict(donor(SWIN_NAME, DEEPER).state_dict())
    for layer in (0, 1):
        for block in (0, 1):
            state[f"layers.{layer}.blocks.{block}.attn.relative_position_index"] = torch.zeros(16, 16)
        state[f"layers.{layer}.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    model = build_backbone(SWIN_NAME, DEEPER, stored(state, tmp_path / "old.safetensors"), 5)
    assert same(model, donor(SWIN_NAME, DEEPER))
    index = model.layers[0].blocks[0].attn.relative_position_index
    assert index.shape == (16, 16) and index.max() == 48


def test_the_names_of_the_first_swin_files_are_taken(tmp_path: Path) -> None:
    # They reduce at the end of a stage, where timm does at the start of the next, and call the classifier `head`.
    renamed = {
        name.replace("layers.1.downsample", "layers.0.downsample").replace("head.fc.", "head."): tensor
        for name, tensor in donor().state_dict().items()
    }
    assert same(build_backbone(SWIN_NAME, SWIN, stored(renamed, tmp_path / "w.safetensors"), 5), donor())


def test_swin_biases_of_another_window_are_resized(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    theirs = donor()
    name = "layers.0.blocks.0.attn.relative_position_bias_table"
    # Linear along the window: (2*4-1)^2 places, a value per place and head. Resizing keeps a ramp a ramp.
    ramp = torch.linspace(-1, 1, 7).view(7, 1, 1).expand(7, 7, 2).reshape(49, 2)
    state = {**theirs.state_dict(), name: ramp}
    path = stored(state, tmp_path / "w.safetensors")
    with caplog.at_level("INFO", logger="buffycoat"):
        wider = build_backbone(SWIN_NAME, {**SWIN, "img_size": 64, "window_size": 8}, path, 5, 64)
    table = wider.state_dict()[name]
    assert table.shape == (15**2, 2)
    across = table.view(15, 15, 2)
    assert torch.allclose(across, across[:, :1].expand_as(across), atol=1e-5), "still constant the other way"
    assert across[[0, 7, 14], 0, 0].tolist() == pytest.approx([-1, 0, 1], abs=1e-5)
    steps = across[1:, 0, 0] - across[:-1, 0, 0]
    assert (steps >= 0).all() and (steps[3:11] > 0).all()
    assert "resized to this image size: 2 (layers.0.blocks.0.attn.relative_position_bias_table" in caplog.text


def test_position_embeddings_of_another_size_are_resized(tmp_path: Path) -> None:
    theirs = donor(VIT_NAME, VIT)
    path = stored(theirs.state_dict(), tmp_path / "w.safetensors")
    larger = build_backbone(VIT_NAME, {**VIT, "img_size": 112}, path, 5, 112)
    grid = larger.pos_embed.detach()[:, 1:].view(1, 8, 8, 32)
    pooled = nn.functional.avg_pool2d(grid.permute(0, 3, 1, 2), 2).flatten(2).transpose(1, 2)
    both = torch.stack([pooled.flatten(), theirs.pos_embed.detach()[:, 1:].flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.9
    assert torch.equal(larger.cls_token, theirs.cls_token)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; fetch it again"),
        (b"<!DOCTYPE html><html>", "is a web page saved in place of the weights"),
        (b"\n <html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
        (b"\x80\x02}q\x00.", "is a pickle, .*save_file"),
        (b"whatever it is", "is not a safetensors file"),
    ],
)
def test_what_is_no_weights_file_is_called_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=rf"w\.safetensors: {message}") as told:
        build_backbone("resnet10t", {}, str(tmp_path / "w.safetensors"), 5)
    assert "\n" not in str(told.value)


def test_a_truncated_an_absent_and_a_folder_are_refused(tmp_path: Path) -> None:
    path = Path(stored(donor().state_dict(), tmp_path / "w.safetensors"))
    whole = path.read_bytes()
    for length in (40, len(whole) - 4):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"w\.safetensors: not a whole safetensors file"):
            build_backbone(SWIN_NAME, SWIN, str(path), 5)
    with pytest.raises(InputError, match=r"absent: no such weights file"):
        build_backbone(SWIN_NAME, SWIN, str(tmp_path / "absent"), 5)
    with pytest.raises(InputError, match=r"a folder, .*backbone: local-dir:"):
        build_backbone(SWIN_NAME, SWIN, str(tmp_path), 5)


def test_a_pickle_is_never_read_and_the_command_that_it_names_converts_it(tmp_path: Path) -> None:
    pickled = tmp_path / "in.pth"
    torch.save({"state_dict": donor().state_dict()}, pickled)
    with pytest.raises(InputError, match=r"in\.pth: is a pickle.*turn it into safetensors: python -c"):
        build_backbone(SWIN_NAME, SWIN, str(pickled), 5)
    told = CONVERT.replace("IN.pth", str(pickled)).replace("OUT.safetensors", str(tmp_path / "out.safetensors"))
    subprocess.run([sys.executable, *shlex.split(told)[1:]], check=True)
    assert same(build_backbone(SWIN_NAME, SWIN, str(tmp_path / "out.safetensors"), 5), donor())


# --- folders and the hub ----------------------------------------------------------------------------------------------


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """A tiny ViT in timm's hub layout, as timm's own function writes it, with a mean and spread of its own."""
    theirs = donor(VIT_NAME, VIT, 0)
    save_for_hf(theirs, tmp_path / "hub", safe_serialization=True)
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    config["pretrained_cfg"] |= {"mean": [0.7, 0.6, 0.8], "std": [0.1, 0.2, 0.3]}
    (tmp_path / "hub" / "config.json").write_text(json.dumps(config))
    return tmp_path / "hub"


def test_a_folder_in_hub_layout_is_network_weights_and_normalisation(folder: Path) -> None:
    model = build_backbone(f"local-dir:{folder}", {}, None, 5, 56)
    assert same(model, donor(VIT_NAME, VIT, 0))
    assert model(torch.rand(1, 3, 56, 56)).shape == (1, 5)
    assert model.pixel_mean.flatten().tolist() == pytest.approx([0.7, 0.6, 0.8])
    assert weights_file(f"local-dir:{folder}", None) == folder / "model.safetensors"
    larger = build_backbone(f"local-dir:{folder}", {}, None, 5, 112)
    assert larger(torch.rand(1, 3, 112, 112)).shape == (1, 5)


def test_a_folder_may_start_from_another_file(folder: Path, tmp_path: Path) -> None:
    theirs = donor(VIT_NAME, VIT, 0)
    with torch.no_grad():
        theirs.cls_token.fill_(3.0)
    other = stored(theirs.state_dict(), tmp_path / "other.safetensors")
    assert (build_backbone(f"local-dir:{folder}", {}, other, 5).cls_token == 3).all()
    assert weights_file(f"local-dir:{folder}", other) == Path(other)


def test_folders_that_lack_a_file_or_make_no_sense_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no config\.json and no model\.safetensors"):
        build_backbone(f"local-dir:{tmp_path / 'nowhere'}", {}, None, 5)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot build 'local-dir:"):
        build_backbone(f"local-dir:{folder}", {}, None, 5)
    (folder / "config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot build 'local-dir:"):
        build_backbone(f"local-dir:{folder}", {}, None, 5)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"no model\.safetensors; a folder in timm's hub layout"):
        build_backbone(f"local-dir:{folder}", {}, None, 5)


def test_hub_names_are_looked_up_in_the_cache_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "hf-hub:owner/tiny.cells"
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked a network"))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"not in the cache.*`hf download owner/tiny\.cells config\.json model\.saf"):
        build_backbone(name, {}, None, 5)
    with pytest.raises(InputError, match=r"--revision v2`.*local-dir:FOLDER"):
        build_backbone(f"{name}@v2", {}, None, 5)
    cached = tmp_path / "cache" / "models--owner--tiny.cells"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("abc")
    (cached / "snapshots").mkdir()
    folder.rename(cached / "snapshots" / "abc")
    assert hub_folder(name) == cached / "snapshots" / "abc"
    assert same(build_backbone(name, {}, None, 5, 56), donor(VIT_NAME, VIT, 0))
    with pytest.raises(InputError, match=r"hf-hub:not a name"):
        build_backbone("hf-hub:not a name", {}, None, 5)


# --- the embedded weights ---------------------------------------------------------------------------------------------


def test_embedded_weights_are_those_of_one_backbone() -> None:
    with pytest.raises(InputError, match="only tf_efficientnet_lite0 has embedded weights"):
        build_backbone(SWIN_NAME, SWIN, "embedded", 5)
    with pytest.raises(InputError, match="backbone_options: tf_efficientnet_lite0 does not take"):
        build_backbone("tf_efficientnet_lite0", {"window_size": 4}, "embedded", 5)
    model = build_backbone("tf_efficientnet_lite0", {}, "embedded", 5, 64)
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 5)
    assert weights_file("tf_efficientnet_lite0", "embedded") is None


# --- normalisation ----------------------------------------------------------------------------------------------------


def test_pixels_are_normalised_as_the_weights_want_them() -> None:
    images = torch.rand(2, 3, 4, 4)
    imagenet = (images - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    assert torch.allclose(normalise(images), imagenet)
    assert torch.allclose(normalise(images, build_backbone(SWIN_NAME, SWIN, None, 5)), imagenet)
    halves = build_backbone("vit_tiny_patch16_224", {"depth": 1}, None, 5)
    assert torch.allclose(normalise(images, halves), 2 * images - 1)
    # Of one architecture, timm's weights and the packaged ones want different pixels.
    assert torch.allclose(normalise(images, build_backbone("tf_efficientnet_lite0", {}, None, 5)), 2 * images - 1)
    packaged = build_backbone("tf_efficientnet_lite0", {}, "embedded", 5)
    assert torch.allclose(normalise(images, packaged), imagenet)


def test_a_trained_model_keeps_its_normalisation(tmp_path: Path) -> None:
    trained = build_backbone("tf_efficientnet_lite0", {}, "embedded", 5)
    path = stored(trained.state_dict(), tmp_path / "model.safetensors")
    # As predict_fold builds it: the trained weights come afterwards, and with them their mean and spread.
    network = build_backbone("tf_efficientnet_lite0", {}, None, 5)
    network.load_state_dict(load_file(path), strict=True)
    images = torch.rand(1, 3, 4, 4)
    assert torch.equal(normalise(images, network), normalise(images, trained))
    assert not {"pixel_mean", "pixel_std"} & {name for name, _ in network.named_parameters()}


# --- freezing ---------------------------------------------------------------------------------------------------------


STEMS = {
    SWIN_NAME: (["patch_embed."], "layers.{}."),
    VIT_NAME: (["patch_embed.", "cls_token", "pos_embed"], "blocks.{}."),
    "tf_efficientnet_lite0": (["conv_stem.", "bn1."], "blocks.{}."),
    "resnet10t": (["conv1.", "bn1."], "layer{}."),
    "convnext_atto": (["stem."], "stages.{}."),
}


@pytest.mark.parametrize(("name", "options", "side"), NETWORKS, ids=NAMES)
def test_only_later_parameters_have_gradients(name: str, options: dict[str, Any], side: int) -> None:
    stem, stage = STEMS[name]
    first = 1 if name == "resnet10t" else 0
    for count in (0, 1, 2, 3):
        model = build_backbone(name, options, None, 5)
        freeze(early_stages(model, count))
        model(torch.rand(2, 3, side, side)).square().sum().backward()
        early = [*(stem if count else []), *(stage.format(first + n) for n in range(count - 1))]
        frozen = {key for key, parameter in model.named_parameters() if key.startswith(tuple(early) or ("-",))}
        assert {key for key, parameter in model.named_parameters() if parameter.grad is None} == frozen
        assert bool(frozen) == bool(count)


@pytest.mark.parametrize(("name", "options", "side"), NETWORKS, ids=NAMES)
def test_frozen_batch_norms_keep_their_statistics(name: str, options: dict[str, Any], side: int) -> None:
    model = build_backbone(name, options, None, 5)
    frozen = early_stages(model, 2)
    freeze(frozen)
    norms = [m for part in frozen for m in part.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert bool(norms) == (name in ("tf_efficientnet_lite0", "resnet10t"))
    before = [norm.running_mean.clone() for norm in norms]
    model(torch.rand(4, 3, side, side))
    assert all(torch.equal(norm.running_mean, old) for norm, old in zip(norms, before, strict=True))


@pytest.mark.parametrize(
    ("name", "options", "most"), [(n, o, m) for (n, o, _), m in zip(NETWORKS, (3, 4, 8, 5, 5), strict=True)], ids=NAMES
)
def test_no_more_stages_are_frozen_than_there_are(name: str, options: dict[str, Any], most: int) -> None:
    model = build_backbone(name, options, None, 5)
    assert early_stages(model, 0) == []
    assert early_stages(model, most)
    with pytest.raises(InputError, match=rf"frozen_stages: {most + 1} is more .*at most {most}"):
        early_stages(model, most + 1)


def test_stages_that_are_named_one_by_one_are_found() -> None:
    model = build_backbone("regnetx_002", {}, None, 5)
    assert early_stages(model, 3) == [model.stem, model.s1, model.s2]
