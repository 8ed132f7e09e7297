"""timm's networks by name, folder or hub id, found locally and tried at a size; shared by branches A and B."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from buffycoat.errors import InputError
from buffycoat.hub import cached_folder, whole_folder
from buffycoat.pretrained import Keys

HUB_FILES = ("config.json", "model.safetensors")
"""What timm's hub layout needs of a folder."""


def hub_folder(name: str, keys: Keys, files: tuple[str, ...] = HUB_FILES) -> Path | None:
    """Return the folder of a name `local-dir:` or `hf-hub:`, with all `files` in it; None for a plain name.

    The hub is looked up in the local cache alone. Raises InputError that says what to fetch and where to put it.
    """
    from timm.models import parse_model_name

    try:
        source, place = parse_model_name(name)
    except ValueError as problem:
        raise InputError(f"{keys.network}: {problem}") from None
    if source == "hf-hub":
        setting = keys.network.rpartition(".")[2]
        return cached_folder(place, files, keys.network, f"{setting}: {keys.local}FOLDER")
    if source is None:
        return None
    return whole_folder(Path(place), files, keys.network, "timm's")


def create_network(name: str, options: dict[str, Any], classes: int, size_px: int | None, keys: Keys) -> nn.Module:
    """Return timm's network with random weights, built for `size_px` where its architecture fixes the image size.

    `classes` 0 gives pooled features; `options` go to timm.create_model. Raises InputError where timm refuses.
    """
    import timm
    from timm.models import resolve_model_input_args

    sized = "" if size_px is None else f" for size_px {size_px}"
    try:
        # Gives img_size to the architectures that fix it when they are built, and to no other.
        arguments = resolve_model_input_args(name, {"img_size": size_px}, **options)
        model: nn.Module = timm.create_model(**{**arguments, "num_classes": classes}, pretrained=False)
    except (AssertionError, LookupError, OSError, RuntimeError, TypeError, ValueError) as problem:
        raise InputError(f"{keys.network}: timm cannot build {name!r} with {options}{sized}: {problem}") from None
    return model


def try_size(model: nn.Module, name: str, size_px: int, outputs: int | None, keys: Keys) -> None:
    """Raise InputError where the network does not turn an image of the size into `outputs` numbers (None: any)."""
    embedding = getattr(model, "patch_embed", None)
    patch = max(getattr(embedding, "patch_size", None) or (1,))
    if size_px % patch and not getattr(embedding, "dynamic_img_pad", False):
        # timm cuts the rest off without a word where img_size is the size.
        raise InputError(
            f"{keys.size}: {name} cuts images into patches of {patch} pixels, and {size_px} is no"
            f" multiple: set {size_px // patch * patch or patch} or {(size_px // patch + 1) * patch}"
        )
    try:
        with torch.inference_mode():
            shape = tuple(model.eval()(torch.zeros(1, 3, size_px, size_px)).shape)
    except (AssertionError, RuntimeError, ValueError) as problem:
        option = f", or {(keys.options or '').rpartition('.')[2]} img_size, window_size, or dynamic_img_size: true"
        raise InputError(
            f"{keys.size}: {name} does not take images of {size_px} pixels ({problem}); set size_px to a size it takes"
            + option * bool(keys.options)
        ) from None
    finally:
        model.train()
    if len(shape) != 2 or outputs not in (None, shape[1]):
        raise InputError(f"{keys.network}: {name} gives {shape} for an image, not (1, {outputs or 'any number'})")


def classifier_names(model: nn.Module) -> list[str]:
    """Return the names of the classifier's parameters, as timm's `get_classifier` tells them."""
    found = model.get_classifier()  # type: ignore[operator]
    # Distilled ViTs have two classifiers.
    parts = found if isinstance(found, (tuple, list)) else [found]
    parameters = {id(parameter) for part in parts for parameter in part.parameters()}
    return [name for name, parameter in model.named_parameters() if id(parameter) in parameters]
