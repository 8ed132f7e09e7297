"""Networks of branch A: any timm model, started from the embedded weights, a local file, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from buffycoat.classify.backbone_weights import NORMALISATION, load_body
from buffycoat.efficientnet import MEAN, STD, efficientnet_lite0
from buffycoat.errors import InputError

EMBEDDED = "tf_efficientnet_lite0"
"""The one backbone whose weights ship in a package."""
HUB_FILES = ("config.json", "model.safetensors")
"""What timm's hub layout needs of a folder."""
STEM = ("conv_stem", "conv1", "bn1", "patch_embed", "norm_pre", "stem")
"""Names that timm's architectures give to the parts before the first stage."""
STAGES = ("blocks", "layers", "stages")
"""Names that they give to the sequence of stages (ViT and EfficientNet, Swin, ConvNeXt)."""


def build_backbone(
    name: str, options: dict[str, Any], weights: str | None, classes: int, size_px: int | None = None
) -> nn.Module:
    """Return the network with a fresh classifier of `classes` outputs, and how it wants its pixels (see `normalise`).

    `name` is one of timm's, `local-dir:FOLDER` in timm's hub layout, or `hf-hub:OWNER/NAME[@REVISION]` of which both
    files are in the local cache: nothing is downloaded. `options` go to timm.create_model. `weights` is `embedded`, a
    safetensors file, or None: the folder's or the hub's own file, random for a plain name. Where `size_px` is given,
    a network of fixed image size is built for it, and one image is tried. Raises InputError on a name, options,
    weights or a size that do not go together.
    """
    folder = hub_folder(name)
    if weights == "embedded":
        model = _embedded(name, options, classes)
    else:
        model = _created(name if folder is None else f"local-dir:{folder}", options, classes, size_px)
    file = weights_file(name, weights)
    if file is not None:
        load_body(model, file, set(classifier_names(model)))
    config: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    mean, std = (MEAN, STD) if weights == "embedded" else (config["mean"], config["std"])
    # Buffers in the state dict: a trained model's file says how its pixels were normalised, whatever started it.
    for buffer, values in zip(NORMALISATION, (mean, std), strict=True):
        model.register_buffer(buffer, torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1))
    if size_px is not None:
        _try_size(model, name, size_px, classes)
    return model


def weights_file(name: str, weights: str | None) -> Path | None:
    """Return the file that the network starts from; None for the embedded weights and for random ones."""
    if weights == "embedded":
        return None
    folder = hub_folder(name)
    if weights is None:
        return None if folder is None else folder / HUB_FILES[1]
    return Path(weights)


def hub_folder(name: str) -> Path | None:
    """Return the folder of a name `local-dir:` or `hf-hub:`, with both files in it; None for a plain name.

    The hub is looked up in the local cache alone. Raises InputError that says what to fetch and where to put it.
    """
    from timm.models import parse_model_name

    try:
        source, place = parse_model_name(name)
    except ValueError as problem:
        raise InputError(f"classify.train_fold.backbone: {problem}") from None
    if source == "hf-hub":
        return _cached(place)
    if source is None:
        return None
    folder = Path(place)
    if absent := [file for file in HUB_FILES if not (folder / file).is_file()]:
        raise InputError(
            f"classify.train_fold.backbone: {folder}: no {' and no '.join(absent)}; a folder in timm's hub layout holds"
            f" {' and '.join(HUB_FILES)}"
        )
    return folder


def _cached(place: str) -> Path:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HFValidationError

    owner_and_name, _, revision = place.partition("@")
    try:
        found = [try_to_load_from_cache(owner_and_name, file, revision=revision or None) for file in HUB_FILES]
    except HFValidationError as problem:
        raise InputError(f"classify.train_fold.backbone: hf-hub:{place}: {problem}") from None
    if not all(isinstance(file, str) for file in found):
        wanted = f"{owner_and_name} {' '.join(HUB_FILES)}" + (f" --revision {revision}" if revision else "")
        raise InputError(
            f"classify.train_fold.backbone: hf-hub:{place} is not in the cache {HF_HUB_CACHE}, and a run downloads"
            f" nothing: fetch it on a machine with a network by `hf download {wanted}`, or put"
            f" {' and '.join(HUB_FILES)} of huggingface.co/{owner_and_name} into a folder and set backbone:"
            " local-dir:FOLDER"
        )
    return Path(str(found[0])).parent


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


def _created(name: str, options: dict[str, Any], classes: int, size_px: int | None) -> nn.Module:
    import timm
    from timm.models import resolve_model_input_args

    sized = "" if size_px is None else f" for size_px {size_px}"
    try:
        # Gives img_size to the architectures that fix it when they are built, and to no other.
        arguments = resolve_model_input_args(name, {"img_size": size_px}, **options)
        model: nn.Module = timm.create_model(**{**arguments, "num_classes": classes}, pretrained=False)
    except (AssertionError, LookupError, OSError, RuntimeError, TypeError, ValueError) as problem:
        raise InputError(
            f"classify.train_fold.backbone: timm cannot build {name!r} with {options}{sized}: {problem}"
        ) from None
    return model


def _try_size(model: nn.Module, name: str, size_px: int, classes: int) -> None:
    """Raise InputError where the network does not turn an image of the size into `classes` numbers."""
    embedding = getattr(model, "patch_embed", None)
    patch = max(getattr(embedding, "patch_size", None) or (1,))
    if size_px % patch and not getattr(embedding, "dynamic_img_pad", False):
        # timm cuts the rest off without a word where img_size is the size.
        raise InputError(
            f"classify.train_fold.size_px: {name} cuts images into patches of {patch} pixels, and {size_px} is no"
            f" multiple: set {size_px // patch * patch or patch} or {(size_px // patch + 1) * patch}"
        )
    try:
        with torch.inference_mode():
            shape = tuple(model.eval()(torch.zeros(1, 3, size_px, size_px)).shape)
    except (AssertionError, RuntimeError, ValueError) as problem:
        raise InputError(
            f"classify.train_fold.size_px: {name} does not take images of {size_px} pixels ({problem}); set size_px to"
            " a size it takes, or backbone_options img_size, window_size, or dynamic_img_size: true"
        ) from None
    finally:
        model.train()
    if shape != (1, classes):
        raise InputError(f"classify.train_fold.backbone: {name} gives {shape} for an image, not (1, {classes})")


def classifier_names(model: nn.Module) -> list[str]:
    """Return the names of the classifier's parameters, as timm's `get_classifier` tells them."""
    found = model.get_classifier()  # type: ignore[operator]
    # Distilled ViTs have two classifiers.
    parts = found if isinstance(found, (tuple, list)) else [found]
    parameters = {id(parameter) for part in parts for parameter in part.parameters()}
    return [name for name, parameter in model.named_parameters() if id(parameter) in parameters]


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
