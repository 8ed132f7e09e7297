"""Encoders by one name: each gives a network from normalised images (n, 3, S, S) to vectors (n, D)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from buffycoat.efficientnet import MEAN, STD
from buffycoat.embed.settings import EmbedCells
from buffycoat.embed.stage_statistics import StageStatistics
from buffycoat.errors import InputError
from buffycoat.hub import stay_offline
from buffycoat.pretrained import Keys, load_body
from buffycoat.timm_networks import HUB_FILES, classifier_names, create_network, hub_folder, try_size

KEYS = Keys(
    network="embed.embed_cells.encoder", weights="embed.embed_cells.weights", size="embed.embed_cells.size_px",
    local="timm:",
)  # fmt: skip
Triple = tuple[float, float, float]


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


def _medsiglip(name: str, settings: EmbedCells) -> Encoder:
    from buffycoat.embed.clip_encoders import medsiglip_encoder

    return medsiglip_encoder(settings)


def _open_clip(name: str, settings: EmbedCells) -> Encoder:
    from buffycoat.embed.clip_encoders import open_clip_encoder

    return open_clip_encoder(name, settings)


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


ENCODERS: dict[str, Callable[[str, EmbedCells], Encoder]] = {
    "efficientnet_lite0": _efficientnet,
    "medsiglip": _medsiglip,
    "open_clip": _open_clip,
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
