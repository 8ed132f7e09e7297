"""Encoders by one name: each gives a network from normalised images (n, 3, S, S) to vectors (n, D)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from buffycoat.efficientnet import MEAN, STD, efficientnet_lite0
from buffycoat.embed.settings import EmbedCells
from buffycoat.embed.siglip import medsiglip
from buffycoat.errors import InputError
from buffycoat.weights import read_weights

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Encoder:
    """A network, how it wants its pixels normalised (mean and spread of values 0..1), and how they are resized."""

    network: nn.Module
    mean: Triple
    std: Triple
    antialias: bool = True
    """Bilinear resizing smooths before it shrinks; MedSigLIP was trained without."""


class _ImageTower(nn.Module):
    """open_clip's image side alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.model.encode_image(images)  # type: ignore[operator]
        return features


def _efficientnet(name: str, settings: EmbedCells) -> Encoder:
    return Encoder(efficientnet_lite0(0), MEAN, STD)


def _medsiglip(name: str, settings: EmbedCells) -> Encoder:
    folder = Path(settings.weights) if settings.weights else None
    half: Triple = (0.5, 0.5, 0.5)
    return Encoder(medsiglip(folder, settings.size_px), half, half, antialias=False)


def _open_clip(name: str, settings: EmbedCells) -> Encoder:
    import open_clip

    options: dict[str, Any] = {"force_image_size": settings.size_px}
    if Path(name).is_dir():
        source, needed = f"local-dir:{name}", Path(name) / "open_clip_model.safetensors"
    elif name in open_clip.list_models() and settings.weights:
        source, needed = name, Path(settings.weights)
        options["pretrained"] = settings.weights
    else:
        raise InputError(
            f"embed.embed_cells.encoder: open_clip:{name} needs local weights: give a folder with"
            " open_clip_config.json and open_clip_model.safetensors, or an architecture's name and a file in"
            " embed.embed_cells.weights; nothing is downloaded"
        )
    if not needed.is_file() or needed.suffix != ".safetensors":
        raise InputError(f"{needed}: no such safetensors file")
    model = open_clip.create_model(source, **options)
    visual = model.visual
    mean = tuple(getattr(visual, "image_mean", None) or (0.48145466, 0.4578275, 0.40821073))
    std = tuple(getattr(visual, "image_std", None) or (0.26862954, 0.26130258, 0.27577711))
    return Encoder(_ImageTower(model), mean, std)


def _timm(name: str, settings: EmbedCells) -> Encoder:
    import timm

    if not settings.weights or not Path(settings.weights).is_file():
        raise InputError(
            f"embed.embed_cells.weights: timm:{name} needs a local safetensors file, found {settings.weights!r};"
            " nothing is downloaded"
        )
    options: dict[str, Any] = {"img_size": settings.size_px} if "vit" in name or "swin" in name else {}
    try:
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **options)
    except RuntimeError as problem:
        raise InputError(f"embed.embed_cells.encoder: timm has no model {name!r} ({problem})") from None
    stored = {
        k: v for k, v in read_weights(Path(settings.weights))[0].items() if not k.startswith(("head.", "classifier."))
    }
    try:
        network.load_state_dict(stored, strict=True)
    except RuntimeError as problem:
        raise InputError(f"{settings.weights}: does not fit timm:{name}: {problem}") from None
    config = network.pretrained_cfg
    return Encoder(network, tuple(config["mean"]), tuple(config["std"]))  # type: ignore[index]


ENCODERS: dict[str, Callable[[str, EmbedCells], Encoder]] = {
    "efficientnet_lite0": _efficientnet,
    "medsiglip": _medsiglip,
    "open_clip": _open_clip,
    "timm": _timm,
}


def load_encoder(settings: EmbedCells) -> Encoder:
    """Return the configured encoder; raises InputError on an unknown name or missing weights."""
    kind, _, name = settings.encoder.partition(":")
    if kind not in ENCODERS or (kind in ("open_clip", "timm")) != bool(name):
        raise InputError(
            f"embed.embed_cells.encoder: {settings.encoder!r} is unknown; use efficientnet_lite0, medsiglip,"
            " open_clip:<name or folder> or timm:<name>"
        )
    encoder = ENCODERS[kind](name, settings)
    encoder.network.eval().requires_grad_(False)
    return encoder
