"""Networks of branch A: any timm model, started from the embedded weights, a local file, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from buffycoat.efficientnet import MEAN, STD, efficientnet_lite0
from buffycoat.errors import InputError
from buffycoat.weights import read_weights


def build_backbone(name: str, options: dict[str, Any], weights: str | None, classes: int) -> nn.Module:
    """Return the network with a fresh classifier of `classes` outputs; raises InputError on weights that do not fit."""
    if weights == "embedded":
        if name != "tf_efficientnet_lite0":
            raise InputError(
                f"classify.train_fold.weights: only tf_efficientnet_lite0 has embedded weights, not {name};"
                " name a local safetensors file, or leave it empty to train from scratch"
            )
        return efficientnet_lite0(classes, **options)
    import timm

    try:
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes, **options)
    except (RuntimeError, TypeError, ValueError) as problem:
        raise InputError(
            f"classify.train_fold.backbone: timm cannot build {name!r} with {options}: {problem}"
        ) from None
    if weights is not None:
        load_body(model, Path(weights))
    return model


def load_body(model: nn.Module, path: Path) -> None:
    """Load everything but the classifier from a safetensors file; raises InputError with the keys that do not fit."""
    stored = read_weights(path)[0]
    own = model.state_dict()
    head = set(classifier_names(model))
    missing = [key for key in own if key not in stored and key not in head]
    surplus = [key for key in stored if key not in own]
    shapes = [key for key in own if key in stored and key not in head and own[key].shape != stored[key].shape]
    if missing or surplus or shapes:
        raise InputError(
            f"{path}: does not fit the backbone: missing {missing[:5]} ({len(missing)}), unknown {surplus[:5]}"
            f" ({len(surplus)}), other shape {shapes[:5]} ({len(shapes)}); check classify.train_fold.backbone"
        )
    model.load_state_dict({**stored, **{key: own[key] for key in head}}, strict=True)


def classifier_names(model: nn.Module) -> list[str]:
    """Return the names of the classifier's parameters, as timm's `get_classifier` tells them."""
    parameters = {id(parameter) for parameter in model.get_classifier().parameters()}  # type: ignore[operator]
    return [name for name, parameter in model.named_parameters() if id(parameter) in parameters]


def early_stages(model: nn.Module, count: int) -> list[nn.Module]:
    """Return the modules of the first `count` stages: the stem, then the blocks; raises InputError beyond them."""
    stem = [getattr(model, name) for name in ("conv_stem", "bn1", "patch_embed", "stem") if hasattr(model, name)]
    blocks = getattr(model, "blocks", None) or getattr(model, "layers", None) or getattr(model, "stages", None)
    if count == 0:
        return []
    if not stem or blocks is None or count > 1 + len(blocks):
        raise InputError(f"classify.train_fold.frozen_stages: {count} is more than this backbone can freeze")
    return [*stem, *list(blocks)[: count - 1]]


def freeze(modules: list[nn.Module]) -> None:
    """Stop the gradient of the modules and keep their batch-norm statistics."""
    for module in modules:
        module.requires_grad_(False)
        module.eval()


def normalise(images: Tensor) -> Tensor:
    """Return images (n, 3, S, S) in 0..1 with ImageNet's mean and spread taken out."""
    mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1)
    return (images - mean) / torch.tensor(STD, device=images.device).view(1, 3, 1, 1)
