from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from buffycoat.core.errors import InputError
from buffycoat.embed.siglip import MEDSIGLIP, convert, load_published, medsiglip, model_config, untrained
from tests.embed.siglip_cases import CONFIG, IMAGE, TEXT, checkpoint, published, published_shapes, sizes

from tests.embed.siglip_cases import slow_image, slow_text  # isort: skip

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def inputs(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(3, 3, 56, 56, dtype=dtype), torch.randint(0, 40, (4, 8))


def unit(vectors: torch.Tensor) -> torch.Tensor:
    return nn.functional.normalize(vectors, dim=1)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_open_clip_embeds_as_the_formulas_say(dtype: torch.dtype) -> None:
    weights = published(sizes(), dtype)
    model: Any = load_published(sizes(), weights)
    images, tokens = inputs(dtype)
    with torch.inference_mode():
        image, text = model.encode_image(images), model.encode_text(tokens)
        expected = slow_image(weights, images, sizes()), slow_text(weights, tokens, sizes())
    assert image.shape == (3, 32) and text.shape == (4, 32)
    assert (unit(image) - unit(expected[0])).abs().max() < TOLERANCE[dtype]
    assert (unit(text) - unit(expected[1])).abs().max() < TOLERANCE[dtype]


def test_the_parity_would_notice_the_other_gelu() -> None:
    weights = published(sizes(), torch.float64)
    model: Any = load_published(sizes(), weights)
    images, _ = inputs(torch.float64)
    for block in model.visual.trunk.blocks:
        block.mlp.act = nn.GELU()
    with torch.inference_mode():
        off = (unit(model.encode_image(images)) - unit(slow_image(weights, images, sizes()))).abs().max()
    assert off > 1e-6


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_open_clip_embeds_as_transformers_does(dtype: torch.dtype) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: see requirements.txt")
    config = transformers.SiglipConfig(
        vision_config=IMAGE, text_config={**TEXT, "projection_size": 32, "bos_token_id": 0, "eos_token_id": 1}
    )
    theirs = transformers.SiglipModel(config).to(dtype).eval()
    weights = published(sizes(), dtype)
    assert {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()} == published_shapes(sizes())
    theirs.load_state_dict(weights)
    model: Any = load_published(sizes(), weights)
    images, tokens = inputs(dtype)
    with torch.inference_mode():
        image = theirs.get_image_features(pixel_values=images).pooler_output
        text = theirs.get_text_features(input_ids=tokens).pooler_output
        assert (unit(model.encode_image(images)) - unit(image)).abs().max() < TOLERANCE[dtype]
        assert (unit(model.encode_text(tokens)) - unit(text)).abs().max() < TOLERANCE[dtype]


def test_the_full_size_takes_every_published_tensor_and_no_other() -> None:
    shapes = published_shapes(MEDSIGLIP)
    assert len(shapes) == 888 and sum(torch.Size(shape).numel() for shape in shapes.values()) == 878_300_338
    with torch.device("meta"):
        weights = {name: torch.empty(shape) for name, shape in shapes.items()}
    model: Any = load_published(MEDSIGLIP, weights)
    trunk = model.visual.trunk
    assert trunk.patch_embed.num_patches == 1024 and len(trunk.blocks) == 27 and trunk.embed_dim == 1152
    assert sum(parameter.numel() for parameter in trunk.parameters()) == 428_565_440
    assert trunk.attn_pool is not None and model.visual.trunk.blocks[0].attn.num_heads == 16


def test_the_full_size_is_what_transformers_builds() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: see requirements.txt")
    text = {**MEDSIGLIP.text_config.model_dump(exclude_none=True), "projection_size": 1152}
    with torch.device("meta"):
        config = transformers.SiglipConfig(
            vision_config=MEDSIGLIP.vision_config.model_dump(),
            text_config={**text, "bos_token_id": 0, "eos_token_id": 1},
        )
        theirs = transformers.SiglipModel(config)
    assert {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()} == published_shapes(MEDSIGLIP)


def test_every_activation_is_the_tanh_gelu() -> None:
    found = [module for module in untrained(sizes()).modules() if "gelu" in type(module).__name__.lower()]
    assert len(found) == 2 + 1 + 3
    assert all("tanh" in repr(module).lower() for module in found), found


def test_attention_is_torchs_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = load_published(sizes(), published(sizes()))
    fused, calls = nn.functional.scaled_dot_product_attention, []

    def counted(*arguments: Any, **options: Any) -> torch.Tensor:
        calls.append(arguments)
        return fused(*arguments, **options)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", counted)
    with torch.inference_mode():
        model.encode_image(torch.zeros(1, 3, 56, 56))
    assert len(calls) == 3, "once a layer, and in the pool"


# --- the folder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 3])
def test_a_published_folder_is_read_whole_or_in_parts(tmp_path: Path, parts: int) -> None:
    weights = checkpoint(tmp_path / "w", parts)
    model: Any
    model, read = medsiglip(tmp_path / "w", 56)
    images, _ = inputs(torch.float32)
    with torch.inference_mode():
        assert torch.allclose(model.encode_image(images), slow_image(weights, images, sizes()), atol=1e-4)
    assert read == sizes()
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


def test_halves_are_read_as_float32() -> None:
    weights = {name: tensor.bfloat16() for name, tensor in published(sizes()).items()}
    assert {parameter.dtype for parameter in load_published(sizes(), weights).parameters()} == {torch.float32}


def test_missing_weights_are_one_line_that_says_what_to_fetch(tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{}")
    for folder in (None, tmp_path / "nowhere", tmp_path / "half"):
        with pytest.raises(
            InputError, match=r"embed\.embed_cells\.weights.*gated.*hf download google/medsigl"
        ) as caught:
            medsiglip(folder, 448)
        assert "\n" not in str(caught.value)


def test_another_size_and_another_model_are_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path / "w")
    with pytest.raises(InputError, match=r"size_px: .*is for 56 pixels, not 448: set size_px: 56"):
        medsiglip(tmp_path / "w", 448)
    for change, message in (
        ({"model_type": "clip"}, "is of a clip"),
        ({"vision_config": {**IMAGE, "hidden_act": "gelu"}}, "activation"),
        ({"vision_config": {**IMAGE, "layer_norm_eps": 1e-5}}, "layer_norm_eps"),
        ({"text_config": {**TEXT, "projection_size": 16}}, "different widths"),
        ({"vision_config": {**IMAGE, "hidden_size": "wide"}}, "vision_config.hidden_size"),
    ):
        (tmp_path / "w" / "config.json").write_text(json.dumps({**CONFIG, **change}))
        with pytest.raises(InputError, match=message):
            medsiglip(tmp_path / "w", 56)


def test_an_index_must_tell_the_truth(tmp_path: Path) -> None:
    checkpoint(tmp_path / "w", 2)
    index = tmp_path / "w" / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    for content, message in (
        ("{", "damaged"),
        (json.dumps({"weight_map": {**places, "logit_bias": "../out.safetensors"}}), "not a file of its own folder"),
        (json.dumps({"weight_map": {**places, "more": places["logit_bias"]}}), "does not list what its files hold"),
        (json.dumps({"weight_map": {**places, "logit_bias": "gone.safetensors"}}), "gone.safetensors: no such"),
    ):
        index.write_text(content)
        with pytest.raises(InputError, match=message):
            medsiglip(tmp_path / "w", 56)


def test_a_checkpoint_must_fit_key_for_key() -> None:
    whole = published(sizes())
    for name in whole:
        with pytest.raises(InputError, match="is missing"):
            convert({k: v for k, v in whole.items() if k != name}, 2, 3)
    for stray in ("vision_model.stray", "text_model.encoder.layers.3.mlp.fc1.bias", "stray"):
        with pytest.raises(InputError, match=f"unknown tensors .*{stray}"):
            convert({**whole, stray: torch.zeros(1)}, 2, 3)
    wide = {**whole, "vision_model.post_layernorm.bias": torch.zeros(33)}
    with pytest.raises(InputError, match=r"does not fit its config\.json at .*norm\.bias \(33,\) for \(32,\)"):
        load_published(sizes(), wide)
    old = {**whole, "vision_model.embeddings.position_ids": torch.arange(16)[None]}
    assert convert(old, 2, 3).keys() == convert(whole, 2, 3).keys()


def test_the_configuration_is_one_that_open_clip_knows() -> None:
    import open_clip

    known = open_clip.get_model_config("ViT-SO400M-14-SigLIP-384")
    ours = model_config(MEDSIGLIP)
    assert ours["embed_dim"] == known["embed_dim"] and ours["init_logit_bias"] == known["init_logit_bias"]
    assert ours["vision_cfg"] == {**known["vision_cfg"], "image_size": 448}
    text = {k: v for k, v in known["text_cfg"].items() if k not in ("hf_tokenizer_name", "tokenizer_kwargs")}
    ratio = ours["text_cfg"].pop("mlp_ratio")
    assert int(ratio * 1152) == int(text.pop("mlp_ratio") * 1152) == 4304
    assert ours["text_cfg"] == {**text, "act_kwargs": {"approximate": "tanh"}}
