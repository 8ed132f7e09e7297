"""Encoders of branch B by one name: each gives a network from normalised images (n, 3, S, S) to vectors (n, D).

EfficientNet-Lite0's channel statistics, MedSigLIP and others of open_clip, and networks of timm.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from buffycoat.core.environment import cached_folder, stay_offline, whole_folder
from buffycoat.core.errors import InputError
from buffycoat.embed.settings import EmbedCells
from buffycoat.embed.siglip import medsiglip
from buffycoat.nets.pretrained import (
    HUB_FILES,
    MEAN,
    STD,
    Keys,
    classifier_names,
    create_network,
    efficientnet_lite0,
    hub_folder,
    load_body,
    read_tensors,
    try_size,
)

log = logging.getLogger("buffycoat")
Triple = tuple[float, float, float]
Tokenizer = Callable[[list[str]], Tensor]

FIRST_STAGE = 2
"""Stages before it see edges and colours alone; from here on: 40, 80, 112, 192, 320 channels."""
KEYS = Keys(
    network="embed.embed_cells.encoder", weights="embed.embed_cells.weights", size="embed.embed_cells.size_px",
    local="timm:",
)  # fmt: skip
FILES = ("open_clip_config.json", "open_clip_model.safetensors")
"""What open_clip's hub layout needs of a folder."""
HALF: Triple = (0.5, 0.5, 0.5)
"""MedSigLIP's mean and spread of pixel values 0..1 (its preprocessor_config.json)."""
NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
"""The smallest text tower: stands in for one of `transformers`, whose parts are looked up on the network."""


class StageStatistics(nn.Module):
    """Mean and standard deviation of each channel over the image, stage by stage: (n, 3, S, S) to (n, 1488)."""

    def __init__(self) -> None:
        """Take the body of EfficientNet-Lite0; what comes behind its last stage goes."""
        super().__init__()
        body = efficientnet_lite0(0)
        self.stem = nn.Sequential(body.conv_stem, body.bn1)  # type: ignore[arg-type]
        self.stages: nn.Sequential = body.blocks  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        """Return the statistics, each stage's means and deviations of length one, so that none outweighs another."""
        maps, parts = self.stem(images), []
        for number, stage in enumerate(self.stages):
            maps = stage(maps)
            if number >= FIRST_STAGE:
                pixels = maps.flatten(2)
                parts += [pixels.mean(dim=2), pixels.std(dim=2, unbiased=False)]
        return torch.cat([functional.normalize(part, dim=1) for part in parts], dim=1)


@dataclass(frozen=True)
class Encoder:
    """A network, how it wants its pixels normalised (mean and spread of values 0..1), and how they are resized."""

    network: nn.Module
    mean: Triple
    std: Triple
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    antialias: bool = True
    """Resizing smooths before it shrinks; MedSigLIP was trained without."""
    embed_texts: Callable[[list[str]], Tensor] | None = None
    """Gives the vectors (n, D) of texts in the images' space, on the CPU; None where the encoder has no text."""


def _efficientnet(name: str, settings: EmbedCells) -> Encoder:
    if settings.weights:
        raise InputError("embed.embed_cells.weights: efficientnet_lite0 brings its own weights; leave it empty")
    return Encoder(StageStatistics(), MEAN, STD)


def with_scheme(name: str) -> str:
    """Return a name with `local-dir:` before a folder and `hf-hub:` before OWNER/NAME; any other as it is."""
    if ":" in name:
        return name
    if Path(name).is_dir():
        return f"local-dir:{name}"
    return f"hf-hub:{name}" if name.count("/") == 1 else name


def _timm(name: str, settings: EmbedCells) -> Encoder:
    named = with_scheme(name)
    folder = hub_folder(named, KEYS)
    file = Path(settings.weights) if settings.weights else folder / HUB_FILES[1] if folder else None
    if file is None:
        raise InputError(
            f"{KEYS.weights}: timm:{name} needs a local safetensors file here; or name a folder in timm's hub layout or"
            " a hub id (timm:OWNER/NAME, from the local cache) as the encoder; nothing is downloaded"
        )
    place = named if folder is None else f"local-dir:{folder}"
    # Built with a classifier, by whose names the file's own is known and left out; then it goes.
    network = create_network(place, {}, 1, settings.size_px, KEYS)
    load_body(network, file, set(classifier_names(network)), KEYS)
    network.reset_classifier(0)  # type: ignore[operator]
    try_size(network, name, settings.size_px, None, KEYS)
    config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    interpolation: Any = "bicubic" if config.get("interpolation") == "bicubic" else "bilinear"
    return Encoder(network, tuple(config["mean"]), tuple(config["std"]), interpolation)


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


def medsiglip_encoder(name: str, settings: EmbedCells) -> Encoder:
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


ENCODERS: dict[str, Callable[[str, EmbedCells], Encoder]] = {
    "efficientnet_lite0": _efficientnet,
    "medsiglip": medsiglip_encoder,
    "open_clip": open_clip_encoder,
    "timm": _timm,
}


def load_encoder(settings: EmbedCells) -> Encoder:
    """Return the configured encoder, frozen; raises InputError on an unknown name or missing weights."""
    kind, _, name = settings.encoder.partition(":")
    if kind not in ENCODERS or (kind in ("open_clip", "timm")) != bool(name):
        raise InputError(
            f"embed.embed_cells.encoder: {settings.encoder!r} is unknown; use efficientnet_lite0, medsiglip,"
            " open_clip:<name, hub id or folder> or timm:<name, hub id or folder>"
        )
    stay_offline()
    encoder = ENCODERS[kind](name, settings)
    encoder.network.eval().requires_grad_(False)
    return encoder
