from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import save_for_hf

from buffycoat.core.errors import InputError
from buffycoat.embed.encoders import Encoder, load_encoder, with_scheme
from buffycoat.embed.settings import EmbedCells
from buffycoat.nets.weights import write_weights
from tests.embed.siglip_cases import CONFIG, TEXT, checkpoint

VIT = "vit_tiny_patch16_224"
VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
WORDS = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
CLIP: dict[str, Any] = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": WORDS}


def encoder_of(name: str, size_px: int, weights: Path | str | None = None) -> Encoder:
    return load_encoder(EmbedCells(encoder=name, size_px=size_px, weights=None if weights is None else str(weights)))


def embedded(encoder: Encoder, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        vectors: torch.Tensor = encoder.network(x)
    return vectors


def test_the_embedded_encoder_needs_nothing() -> None:
    encoder = encoder_of("efficientnet_lite0", 64)
    assert embedded(encoder, torch.rand(2, 3, 64, 64)).shape == (2, 1488)
    assert not any(parameter.requires_grad for parameter in encoder.network.parameters())
    assert encoder.embed_texts is None and not encoder.network.training


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": "resnet"}, "'resnet' is unknown"),
        ({"encoder": "timm"}, "'timm' is unknown"),
        ({"encoder": "efficientnet_lite0:x"}, "is unknown"),
        ({"encoder": "efficientnet_lite0", "weights": "x"}, "brings its own weights"),
        ({"encoder": "medsiglip"}, r"weights: not set.*google/medsiglip-448"),
        ({"encoder": "medsiglip", "weights": "nowhere"}, r"nowhere: no config\.json and model\.safetensors.*gated"),
        ({"encoder": "timm:vit_tiny_patch16_224"}, "needs a local safetensors file"),
        ({"encoder": "timm:vit_tiny_patch16_224", "weights": "nowhere"}, "nowhere: no such weights file"),
        ({"encoder": "timm:owner/absent"}, r"not in the cache.*hf download owner/absent config\.json.*timm:FOLDER"),
        ({"encoder": "timm:nonsense", "weights": "x"}, "timm cannot build 'nonsense'"),
        ({"encoder": "open_clip:ViT-B-32"}, "needs local weights"),
        ({"encoder": "open_clip:ViT-B-32", "weights": "nowhere"}, "nowhere: no such weights file"),
        ({"encoder": "open_clip:nonsense"}, "no architecture 'nonsense'"),
        ({"encoder": "open_clip:owner/absent"}, r"not in the cache.*open_clip_model\.safetensors.*open_clip:FOLDER"),
    ],
)
def test_an_encoder_that_is_not_there_is_one_clear_line(settings: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_encoder(EmbedCells.model_validate(settings))
    assert "\n" not in str(caught.value)
    assert "classify" not in str(caught.value)


def test_names_folders_and_hub_ids_are_told_apart(tmp_path: Path) -> None:
    assert with_scheme("vit_tiny") == "vit_tiny"
    assert with_scheme("owner/name@v1") == "hf-hub:owner/name@v1"
    assert with_scheme("hf-hub:owner/name") == "hf-hub:owner/name"
    assert with_scheme(str(tmp_path)) == f"local-dir:{tmp_path}"


# --- timm -------------------------------------------------------------------------------------------------------------


@pytest.fixture()
def donor() -> Any:
    torch.manual_seed(0)
    model = timm.create_model(VIT, num_classes=3, img_size=32).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return model


def features(donor: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        vectors: torch.Tensor = donor.forward_head(donor.forward_features(x), pre_logits=True)
    return vectors


def test_a_timm_encoder_from_a_local_file(tmp_path: Path, donor: Any) -> None:
    write_weights(donor.state_dict(), {}, tmp_path / "w.safetensors")
    encoder = encoder_of(f"timm:{VIT}", 32, tmp_path / "w.safetensors")
    x = torch.rand(1, 3, 32, 32)
    assert torch.allclose(embedded(encoder, x), features(donor, x), atol=1e-6)
    assert encoder.mean == (0.5, 0.5, 0.5) and encoder.interpolation == "bicubic"


def test_a_timm_encoder_from_a_folder_and_from_the_hubs_cache(
    tmp_path: Path, donor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hub" / "models--owner--vit.dinobloom" / "snapshots" / "abc"
    refs = tmp_path / "hub" / "models--owner--vit.dinobloom" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("abc")
    config = {"mean": (0.1, 0.2, 0.3), "std": (0.3, 0.2, 0.1), "interpolation": "bilinear"}
    donor.pretrained_cfg = {**donor.pretrained_cfg, **config}
    save_for_hf(donor, str(folder), model_args={"img_size": 32}, safe_serialization=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    x = torch.rand(1, 3, 32, 32)
    for name in (str(folder), f"local-dir:{folder}", "owner/vit.dinobloom", "hf-hub:owner/vit.dinobloom"):
        encoder = encoder_of(f"timm:{name}", 32)
        assert torch.allclose(embedded(encoder, x), features(donor, x), atol=1e-6), name
        assert (encoder.mean, encoder.std) == ((0.1, 0.2, 0.3), (0.3, 0.2, 0.1))
        assert encoder.interpolation == "bilinear"


@pytest.mark.parametrize(
    ("name", "size_px", "width"),
    [("resnet10t", 32, 512), ("convnext_atto", 64, 320), ("mobilenetv3_small_050", 32, 1024)],
)
def test_networks_of_other_kinds_give_their_pooled_features(
    tmp_path: Path, name: str, size_px: int, width: int
) -> None:
    torch.manual_seed(0)
    donor: Any = timm.create_model(name, num_classes=5).eval()
    write_weights(donor.state_dict(), {}, tmp_path / "w.safetensors")
    encoder = encoder_of(f"timm:{name}", size_px, tmp_path / "w.safetensors")
    x = torch.rand(2, 3, size_px, size_px)
    assert embedded(encoder, x).shape == (2, width)
    assert torch.allclose(embedded(encoder, x), features(donor, x), atol=1e-5)


def test_a_timm_file_must_fit_but_for_its_classifier(tmp_path: Path, donor: Any) -> None:
    weights = donor.state_dict()
    for change in ({"blocks.3.norm1.weight": None}, {"stray": torch.zeros(1)}, {"norm.bias": torch.zeros(5)}):
        kept = {k: v for k, v in {**weights, **change}.items() if v is not None}
        save_file(kept, tmp_path / "w.safetensors")
        with pytest.raises(InputError, match=f"does not fit the encoder.*{next(iter(change))}"):
            encoder_of(f"timm:{VIT}", 32, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"embed\.embed_cells\.size_px: .*patches of 16 pixels"):
        save_file(weights, tmp_path / "w.safetensors")
        encoder_of(f"timm:{VIT}", 40, tmp_path / "w.safetensors")


# --- open_clip --------------------------------------------------------------------------------------------------------


def clip_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any] = CLIP) -> Any:
    """A folder in open_clip's hub layout with random weights; returns its model."""
    import open_clip

    folder.mkdir(parents=True)
    content = {"model_cfg": config, "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.3]}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    torch.manual_seed(0)
    model: Any = open_clip.CLIP(**config).eval()
    write_weights(model.state_dict(), {}, folder / "open_clip_model.safetensors")
    return model


def test_an_open_clip_encoder_from_a_folder_and_from_the_hubs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip

    folder = tmp_path / "models--owner--clip" / "snapshots" / "abc"
    donor = clip_folder(folder, monkeypatch)
    (tmp_path / "models--owner--clip" / "refs").mkdir()
    (tmp_path / "models--owner--clip" / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    x = torch.rand(2, 3, 32, 32)
    texts = ["a plasma cell", "a lymphocyte"]
    with torch.inference_mode():
        image, text = donor.encode_image(x), donor.encode_text(open_clip.tokenize(texts))
    for name in (str(folder), "owner/clip"):
        encoder = encoder_of(f"open_clip:{name}", 32)
        assert encoder.mean == (0.4, 0.5, 0.6) and encoder.std == (0.2, 0.2, 0.3)
        assert encoder.interpolation == "bicubic"
        assert torch.allclose(embedded(encoder, x), image, atol=1e-6)
        assert encoder.embed_texts is not None
        assert torch.allclose(encoder.embed_texts(texts), text, atol=1e-6)


def test_an_open_clip_architecture_with_a_file_is_loaded_strictly(tmp_path: Path) -> None:
    import open_clip

    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tiny-test.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(tmp_path / "configs")
    donor: Any = open_clip.create_model("tiny-test").eval()
    write_weights(donor.state_dict(), {}, tmp_path / "w.safetensors")
    x = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        expected = donor.encode_image(x)
    assert torch.allclose(embedded(encoder_of("open_clip:tiny-test", 32, tmp_path / "w.safetensors"), x), expected)
    less = {name: value for name, value in donor.state_dict().items() if name != "visual.proj"}
    write_weights(less, {}, tmp_path / "less.safetensors")
    with pytest.raises(InputError, match="open_clip cannot build tiny-test.*visual.proj") as caught:
        encoder_of("open_clip:tiny-test", 32, tmp_path / "less.safetensors")
    assert "\n" not in str(caught.value)
    (tmp_path / "w.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="is a pickle"):
        encoder_of("open_clip:tiny-test", 32, tmp_path / "w.bin")


def test_a_text_tower_of_another_library_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "biomed"
    donor = clip_folder(folder, monkeypatch)
    config = {**CLIP, "text_cfg": {"hf_model_name": "owner/bert", "hf_proj_type": "mlp", "context_length": 256}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    with caplog.at_level(logging.INFO, "buffycoat"):
        encoder = encoder_of(f"open_clip:{folder}", 32)
    assert encoder.embed_texts is None and "owner/bert" in caplog.text
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(embedded(encoder, x), donor.visual(x), atol=1e-6)
    with pytest.raises(InputError, match="takes images of 32 pixels"):
        encoder_of(f"open_clip:{folder}", 64)
    config["vision_cfg"] = {**VISION, "layers": 2}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    with pytest.raises(InputError, match=r"does not fit its open_clip_config\.json"):
        encoder_of(f"open_clip:{folder}", 32)
    (folder / "open_clip_config.json").write_text("[]")
    with pytest.raises(InputError, match="not a configuration of open_clip"):
        encoder_of(f"open_clip:{folder}", 32)


# --- medsiglip --------------------------------------------------------------------------------------------------------


def test_medsiglip_from_its_published_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint(tmp_path / "w")
    encoder = encoder_of("medsiglip", 56, tmp_path / "w")
    assert embedded(encoder, torch.rand(2, 3, 56, 56)).shape == (2, 32)
    assert (encoder.mean, encoder.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert encoder.interpolation == "bilinear" and not encoder.antialias
    # The folder has no tokenizer: everything but the text works, and the log says so.
    assert encoder.embed_texts is None and "no zero-shot baseline" in caplog.text


def test_medsiglip_embeds_texts_with_the_folders_tokenizer(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="transformers is not installed: see requirements.txt")
    pytest.importorskip("transformers", reason="transformers is not installed: see requirements.txt")
    words = ["<unk>", "</s>", "a", "microscope", "image", "of", "plasma", "cell"]
    checkpoint(tmp_path / "w", config={**CONFIG, "text_config": {**TEXT, "vocab_size": 8}})
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: k for k, w in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "w" / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "</s>", "unk_token": "<unk>"}
    (tmp_path / "w" / "tokenizer_config.json").write_text(json.dumps(about))
    encoder = encoder_of("medsiglip", 56, tmp_path / "w")
    assert encoder.embed_texts is not None
    one, same, other = encoder.embed_texts(["a plasma cell", "A plasma, cell!", "a microscope"]).numpy()
    assert one.shape == (32,) and np.allclose(one, same, atol=1e-5) and not np.allclose(one, other, atol=1e-3)
