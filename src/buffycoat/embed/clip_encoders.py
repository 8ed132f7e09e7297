"""Encoders that open_clip builds, each with its text side where that works without a download."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from buffycoat.embed.encoders import KEYS, Encoder, Triple, with_scheme
from buffycoat.embed.settings import EmbedCells
from buffycoat.embed.siglip import medsiglip
from buffycoat.errors import InputError
from buffycoat.hub import cached_folder, whole_folder
from buffycoat.pretrained import read_tensors

log = logging.getLogger("buffycoat")

FILES = ("open_clip_config.json", "open_clip_model.safetensors")
"""What open_clip's hub layout needs of a folder."""
HALF: Triple = (0.5, 0.5, 0.5)
"""MedSigLIP's mean and spread of pixel values 0..1 (its preprocessor_config.json)."""
NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
"""The smallest text tower: stands in for one of `transformers`, whose parts are looked up on the network."""
Tokenizer = Callable[[list[str]], Tensor]


def _text_side(model: nn.Module, tokenizer: Tokenizer) -> Callable[[list[str]], Tensor]:
    """Return what embeds texts, on the CPU in float32, (n, D)."""

    def embed_texts(texts: list[str]) -> Tensor:
        with torch.inference_mode():
            vectors: Tensor = model.encode_text(tokenizer(texts))  # type: ignore[operator]
        return vectors.float()

    return embed_texts


def _or_no_text(make: Callable[[], Tokenizer], model: nn.Module) -> Callable[[list[str]], Tensor] | None:
    """Return the text side, or None, logged with the reason, where its tokenizer is not on this machine."""
    try:
        return _text_side(model, make())
    except (ImportError, OSError, ValueError, KeyError) as problem:
        reason = str(problem).strip().partition("\n")[0]
        log.warning("embed_cells: no zero-shot baseline, the encoder's tokenizer cannot be loaded: %s", reason)
        return None


def medsiglip_encoder(settings: EmbedCells) -> Encoder:
    """Return MedSigLIP from the folder of its published checkpoint; raises InputError where that is not whole."""
    folder = Path(settings.weights) if settings.weights else None
    model, sizes = medsiglip(folder, settings.size_px)

    def tokenizer() -> Tokenizer:
        from open_clip.tokenizer import HFTokenizer

        context = sizes.text_config.max_position_embeddings
        made: Tokenizer = HFTokenizer(str(folder), context_length=context, clean="canonicalize")
        return made

    texts = _or_no_text(tokenizer, model)
    return Encoder(model.visual, HALF, HALF, antialias=False, embed_texts=texts)  # type: ignore[arg-type]


def _normalisation(preprocess: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `Encoder` that open_clip's preprocessing settings tell; OpenAI's where they are silent."""
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    mean, std = preprocess.get("mean") or OPENAI_DATASET_MEAN, preprocess.get("std") or OPENAI_DATASET_STD
    bilinear = preprocess.get("interpolation") == "bilinear"
    return {"mean": tuple(mean), "std": tuple(std), "interpolation": "bilinear" if bilinear else "bicubic"}


def _build(source: str, size_px: int, weights: str | None) -> nn.Module:
    """Return open_clip's model, strictly loaded; raises InputError where open_clip refuses."""
    import open_clip

    try:
        model: nn.Module = open_clip.create_model(source, pretrained=weights, force_image_size=size_px)
    except (AssertionError, KeyError, OSError, RuntimeError, TypeError, ValueError) as problem:
        told = " ".join(str(problem).split())
        raise InputError(f"{KEYS.network}: open_clip cannot build {source} for {size_px} pixels: {told}") from None
    return model.eval()


def _image_tower(config: dict[str, Any], folder: Path, size_px: int) -> nn.Module:
    """Return the image tower alone, strictly loaded: its text tower would need files beyond the folder."""
    from open_clip import CustomTextCLIP

    vision = {**config["vision_cfg"], "timm_model_pretrained": False}
    gelu = bool(config.get("quick_gelu", False))
    tower: Any = CustomTextCLIP(config["embed_dim"], vision, NO_TEXT, quick_gelu=gelu).visual
    stored = read_tensors(folder / FILES[1], KEYS)
    try:
        tower.load_state_dict(
            {name.removeprefix("visual."): value for name, value in stored.items() if name.startswith("visual.")}
        )
    except RuntimeError as problem:
        raise InputError(f"{folder / FILES[1]}: does not fit its open_clip_config.json: {problem}") from None
    if tuple(tower.image_size) != (size_px, size_px):
        if not hasattr(tower, "set_input_size"):
            raise InputError(f"{KEYS.size}: {folder} takes images of {tower.image_size[0]} pixels: set that")
        tower.set_input_size(size_px)
    whole: nn.Module = tower.eval()
    return whole


def _from_folder(folder: Path, size_px: int) -> Encoder:
    import open_clip

    file = folder / FILES[0]
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        config, preprocess = content["model_cfg"], content.get("preprocess_cfg", {})
        text = config["text_cfg"]
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        raise InputError(f"{file}: not a configuration of open_clip ({problem})") from None
    if "hf_model_name" in text:
        log.info("embed_cells: no zero-shot baseline: the text tower, %s, is not in the folder", text["hf_model_name"])
        return Encoder(_image_tower(config, folder, size_px), **_normalisation(preprocess))
    # Refused here in one line where it is a pickle, a pointer or a page.
    read_tensors(folder / FILES[1], KEYS)
    source = f"local-dir:{folder}"
    model = _build(source, size_px, None)
    texts = _or_no_text(lambda: open_clip.get_tokenizer(source), model)
    return Encoder(model.visual, **_normalisation(preprocess), embed_texts=texts)  # type: ignore[arg-type]


def open_clip_encoder(name: str, settings: EmbedCells) -> Encoder:
    """Return an encoder of open_clip by architecture, hub id or folder; raises InputError where files are missing.

    A hub id is looked up in the local cache alone; an architecture's weights are `settings.weights`.
    """
    import open_clip

    scheme, _, place = with_scheme(name).rpartition(":")
    if scheme == "hf-hub":
        return _from_folder(cached_folder(place, FILES, KEYS.network, "encoder: open_clip:FOLDER"), settings.size_px)
    if scheme == "local-dir":
        return _from_folder(whole_folder(Path(place), FILES, KEYS.network, "open_clip's"), settings.size_px)
    if name not in open_clip.list_models():
        raise InputError(
            f"{KEYS.network}: open_clip has no architecture {name!r}, and there is no such folder; or give a hub id"
            " (open_clip:OWNER/NAME)"
        )
    if not settings.weights:
        raise InputError(
            f"{KEYS.weights}: open_clip:{name} needs local weights: set here a safetensors file, or name as the encoder"
            f" a folder with {' and '.join(FILES)} or a hub id from the local cache; nothing is downloaded"
        )
    read_tensors(Path(settings.weights), KEYS)
    model = _build(name, settings.size_px, settings.weights)
    texts = _or_no_text(lambda: open_clip.get_tokenizer(name), model)
    preprocess = getattr(model.visual, "preprocess_cfg", {})
    return Encoder(model.visual, **_normalisation(preprocess), embed_texts=texts)  # type: ignore[arg-type]
