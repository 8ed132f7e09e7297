"""Networks of branch A: any timm model, started from the embedded weights, a local file, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from buffycoat.core.errors import InputError
from buffycoat.nets import pretrained
from buffycoat.nets.pretrained import (
    HUB_FILES,
    MEAN,
    NORMALISATION,
    STD,
    Keys,
    classifier_names,
    create_network,
    efficientnet_lite0,
    load_body,
    try_size,
)

EMBEDDED = "tf_efficientnet_lite0"
"""The one backbone whose weights ship in a package."""
KEYS = Keys(
    network="classify.train_fold.backbone", weights="classify.train_fold.weights", size="classify.train_fold.size_px",
    options="classify.train_fold.backbone_options",
)  # fmt: skip
STEM = ("conv_stem", "conv1", "bn1", "patch_embed", "norm_pre", "stem")
"""Names that timm's architectures give to the parts before the first stage."""
STAGES = ("blocks", "layers", "stages")
"""Names that they give to the sequence of stages (ViT and EfficientNet, Swin, ConvNeXt)."""


def build_backbone(
    name: str,
    options: dict[str, Any],
    weights: str | None,
    classes: int,
    size_px: int | None = None,
    empty: bool = False,
) -> nn.Module:
    """Return the network with a fresh classifier of `classes` outputs, and how it wants its pixels (see `normalise`).

    `name` is one of timm's, `local-dir:FOLDER` in timm's hub layout, or `hf-hub:OWNER/NAME[@REVISION]` of which both
    files are in the local cache: nothing is downloaded. `options` go to timm.create_model. `weights` is `embedded`, a
    safetensors file, or None: the folder's or the hub's own file, random for a plain name. Where `size_px` is given,
    a network of fixed image size is built for it, and one image is tried. An `empty` one is
    about to be given all its tensors: of a folder its configuration alone is read. Raises InputError on a name,
    options, weights or a size that do not go together.
    """
    folder = hub_folder(name, HUB_FILES[:1] if empty else HUB_FILES)
    if weights == "embedded":
        model = _embedded(name, options, classes)
    else:
        model = create_network(name if folder is None else f"local-dir:{folder}", options, classes, size_px, KEYS)
    file = None if empty else weights_file(name, weights)
    if file is not None:
        load_body(model, file, set(classifier_names(model)), KEYS)
    config: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    mean, std = (MEAN, STD) if weights == "embedded" else (config["mean"], config["std"])
    # Buffers in the state dict: a trained model's file says how its pixels were normalised, whatever started it.
    for buffer, values in zip(NORMALISATION, (mean, std), strict=True):
        model.register_buffer(buffer, torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1))
    if size_px is not None:
        try_size(model, name, size_px, classes, KEYS)
    return model


def weights_file(name: str, weights: str | None) -> Path | None:
    """Return the file that the network starts from; None for the embedded weights and for random ones."""
    if weights == "embedded":
        return None
    folder = hub_folder(name)
    if weights is None:
        return None if folder is None else folder / HUB_FILES[1]
    return Path(weights)


def hub_folder(name: str, files: tuple[str, ...] = HUB_FILES) -> Path | None:
    """Return the folder of a name `local-dir:` or `hf-hub:`, with all `files` in it; None for a plain name."""
    return pretrained.hub_folder(name, KEYS, files)


def _embedded(name: str, options: dict[str, Any], classes: int) -> nn.Module:
    if name != EMBEDDED:
        raise InputError(
            f"classify.train_fold.weights: only {EMBEDDED} has embedded weights, not {name};"
            " name a local safetensors file, or leave it empty to train from scratch"
        )
    try:
        return efficientnet_lite0(classes, **options)
    except TypeError as problem:
        raise InputError(f"classify.train_fold.backbone_options: {name} does not take {options}: {problem}") from None


def _stages(model: nn.Module) -> list[nn.Module]:
    for name in STAGES:
        if isinstance(found := getattr(model, name, None), (nn.Sequential, nn.ModuleList)):
            return list(found)
    # ResNets and RegNets name their stages one by one.
    for prefix in ("layer", "s"):
        if found := [getattr(model, f"{prefix}{n}") for n in range(1, 5) if hasattr(model, f"{prefix}{n}")]:
            return found
    return []


def early_stages(model: nn.Module, count: int) -> list[nn.Module]:
    """Return the modules of the first `count` stages: the stem, then the blocks; raises InputError beyond them.

    The stem holds what a network adds to its first tokens too (class token, position embeddings): were they trained,
    the gradient would have to pass through every frozen block.
    """
    if count == 0:
        return []
    stem = [getattr(model, name) for name in STEM if hasattr(model, name)]
    stages = _stages(model)
    if not stem or not stages or count > 1 + len(stages):
        most = 1 + len(stages) if stem and stages else 0
        raise InputError(
            f"classify.train_fold.frozen_stages: {count} is more than this backbone can freeze: at most {most}"
        )
    tokens = [parameter for _, parameter in model.named_parameters(recurse=False)]
    return [*stem, *([nn.ParameterList(tokens)] if tokens else []), *stages[: count - 1]]


def freeze(modules: list[nn.Module]) -> None:
    """Stop the gradient of the modules and keep their batch-norm statistics."""
    for module in modules:
        module.requires_grad_(False)
        module.eval()


def normalise(images: Tensor, network: nn.Module | None = None) -> Tensor:
    """Return images (n, 3, S, S) in 0..1 with mean and spread taken out: those of the network's weights.

    `network` comes from `build_backbone` and is on the images' device; without one, ImageNet's mean and spread.
    """
    if network is not None:
        own_mean, own_std = (cast(Tensor, getattr(network, name)) for name in NORMALISATION)
        return (images - own_mean) / own_std
    mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1)
    return (images - mean) / torch.tensor(STD, device=images.device).view(1, 3, 1, 1)
