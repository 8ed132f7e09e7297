"""The embedded segmenter: a U-Net on EfficientNet-Lite0 that tells cell, nucleus and core of white cells.

Architecture: U-Net (doi 10.1007/978-3-319-24574-4_28) from segmentation_models_pytorch. Its weights ship in this
package; benchmarks/crop.json tells what they were trained on and how well they do on microscopes they have not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from buffycoat.core.errors import InputError
from buffycoat.core.files import sha256_of
from buffycoat.nets.device import mixed_precision
from buffycoat.nets.pretrained import MEAN, STD, efficientnet_lite0
from buffycoat.nets.weights import read_weights

Floats = npt.NDArray[np.float32]

MAPS = ("cell", "nucleus", "core")
"""What the network tells of each pixel: in a white cell, in its nucleus, in the inner part that cells do not share."""
DECODER = (96, 64, 48, 32, 16)
SHIPPED_SHA256 = "abbe25144714fbf5447955a30dcdf71fd1fff078141a81102742c349859e9bd0"
"""SHA-256 of the weights that ship in the package; a part of the code, so that other weights run cropping again."""
SIDE_PX = 128
"""Side of the network's input, pixels; both passes and the training use it."""


def build_network() -> nn.Module:
    """Return the network with random weights; input (N, 3, S, S), S a multiple of 32, output logits (N, 3, S, S)."""
    import segmentation_models_pytorch as smp

    network: nn.Module = smp.Unet(
        "tu-tf_efficientnet_lite0", encoder_weights=None, classes=len(MAPS), decoder_channels=DECODER
    )
    return network


def imagenet_network() -> nn.Module:
    """Return the network with ImageNet weights in its encoder and random ones in its decoder."""
    network = build_network()
    encoder: Any = network.encoder
    whole = efficientnet_lite0(0).state_dict()
    encoder.model.load_state_dict({name: whole[name] for name in encoder.model.state_dict()}, strict=True)
    return network


def half_precision(network: nn.Module) -> dict[str, Tensor]:
    """Return the network's tensors for storage, in float16: half the size, and the masks do not change."""
    return {name: x.half() if x.is_floating_point() else x for name, x in network.state_dict().items()}


@contextmanager
def shipped_weights() -> Iterator[Path]:
    """Yield the path of the weights in the package; raises InputError where they are not those of this version."""
    with as_file(files("buffycoat.crop") / "segmenter.safetensors") as path:
        if not path.is_file() or sha256_of(path) != SHIPPED_SHA256:
            raise InputError(f"{path}: not the file that this version was released with; install buffycoat again")
        yield path


def load_network(path: Path | None = None) -> nn.Module:
    """Return a stored network, ready to use in float32; None means the weights that ship in the package.

    Raises InputError where the file is missing, damaged, or of another architecture.
    """
    if path is None:
        with shipped_weights() as packaged:
            return load_network(packaged)
    tensors, _ = read_weights(path)
    network = build_network()
    own = network.state_dict()
    wrong = sorted(name for name in own if name not in tensors or tensors[name].shape != own[name].shape)
    surplus = sorted(set(tensors) - set(own))
    if wrong or surplus:
        raise InputError(f"{path}: not the weights of the segmenter: missing or misshapen {wrong}, surplus {surplus}")
    network.load_state_dict({name: x.float() if x.is_floating_point() else x for name, x in tensors.items()})
    ready: nn.Module = network.eval().to(memory_format=torch.channels_last)
    return ready


def network_input(views: list[Floats]) -> Tensor:
    """Return canonical views (S, S, 3) in 0..1 as a batch (N, 3, S, S), normalised as the encoder expects."""
    batch = (np.stack(views) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous()


def predict_maps(network: nn.Module, views: list[Floats], batch: int = 64) -> Floats:
    """Return probabilities (N, 3, S, S) float32 in 0..1, in the order of MAPS, of canonical views (S, S, 3), N >= 1."""
    device = next(network.parameters()).device
    parts = []
    with torch.inference_mode(), mixed_precision(device):
        for start in range(0, len(views), batch):
            x = network_input(views[start : start + batch]).to(device, memory_format=torch.channels_last)
            parts.append(network(x).float().sigmoid().cpu().numpy())
    return np.concatenate(parts)
