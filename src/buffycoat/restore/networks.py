"""The generator (U-Net) and the discriminator (70x70 PatchGAN) of Pix2Pix, doi 10.1109/CVPR.2017.632.

Shapes: images are (batch, 3, height, width) float32 in [-1, 1]; height and width are multiples of 2**depth.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["instance", "batch", "none"]
Upsampling = Literal["resize", "transposed"]


def _norm(kind: Norm, channels: int) -> nn.Module:
    kinds = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}
    return kinds[kind](channels) if kind in kinds else nn.Identity()


def _up(kind: Upsampling, before: int, after: int, bias: bool) -> nn.Module:
    if kind == "transposed":
        return nn.ConvTranspose2d(before, after, 4, 2, 1, bias=bias)
    grow = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return nn.Sequential(grow, nn.Conv2d(before, after, 3, 1, 1, bias=bias))


class _Level(nn.Module):
    """One halving, all that is below it, and the doubling back; the input is passed along beside the result."""

    def __init__(
        self, outer: int, inner: int, below: nn.Module | None, norm: Norm, upsampling: Upsampling, dropout: float
    ) -> None:
        super().__init__()
        bias = norm != "batch"
        down: list[nn.Module] = [nn.LeakyReLU(0.2), nn.Conv2d(outer, inner, 4, 2, 1, bias=bias)]
        if below is not None:
            down.append(_norm(norm, inner))
        # A 1x1 map has no variance: at the bottom an instance norm would erase it.
        up = [nn.ReLU(), _up(upsampling, inner * (2 if below is not None else 1), outer, bias), _norm(norm, outer)]
        if dropout:
            up.append(nn.Dropout(dropout))
        self.body = nn.Sequential(*down, *([below] if below is not None else []), *up)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], dim=1)


class Generator(nn.Module):
    """U-Net of `depth` halvings; 54,413,955 parameters at depth 8, width 64, batch norm, transposed convolutions."""

    def __init__(
        self, depth: int, width: int, norm: Norm, upsampling: Upsampling, dropout: float, residual: bool
    ) -> None:
        """Build from the innermost level outwards; the channels double with each of the first three halvings."""
        super().__init__()
        channels = [width * min(8, 2**level) for level in range(depth)]
        inner: nn.Module | None = None
        for level in range(depth - 1, 0, -1):
            drop = dropout if 4 <= level < depth - 1 else 0.0
            inner = _Level(channels[level - 1], channels[level], inner, norm, upsampling, drop)
        assert inner is not None
        self.first = nn.Conv2d(3, width, 4, 2, 1, bias=norm != "batch")
        self.inner = inner
        self.fine = nn.Conv2d(3, width, 3, 1, 1) if upsampling == "resize" else None
        self.last = (
            _fine_end(width)
            if upsampling == "resize"
            else nn.Sequential(nn.ReLU(), _up(upsampling, 2 * width, 3, True))
        )
        self.residual = residual
        if residual:
            # The first correction is none: a network that starts far off is easily thrown farther.
            for parameter in list(self.last.parameters())[-2:]:
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return the restored images, as `x` in shape and range."""
        y = self.inner(self.first(x))
        if self.fine is not None:
            # Noise is pixel by pixel: what has been halved and smoothly doubled again cannot tell pixels apart.
            grown = nn.functional.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
            y = torch.cat([grown, self.fine(x)], dim=1)
        y = self.last(y)
        if self.residual:
            # Neither tanh nor clamp in training: both stop the gradient where it is needed most, far from the truth.
            corrected: Tensor = x + y
            return corrected if self.training else corrected.clamp(-1, 1)
        return torch.tanh(y)


def _fine_end(width: int) -> nn.Sequential:
    """Return the last layers of the resizing generator, at full resolution."""
    return nn.Sequential(
        nn.LeakyReLU(0.2),
        nn.Conv2d(3 * width, width, 3, 1, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, width, 3, 1, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 3, 3, 1, 1),
    )


class Discriminator(nn.Module):
    """70x70 PatchGAN on (noisy, image) pairs, 6 channels; 2,768,705 parameters at width 64 with batch norm."""

    def __init__(self, width: int, norm: Norm) -> None:
        """Build five 4x4 convolutions; the first three halve the size."""
        super().__init__()
        bias = norm != "batch"
        layers: list[nn.Module] = [nn.Conv2d(6, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        before = width
        for level, stride in ((1, 2), (2, 2), (3, 1)):
            after = width * min(8, 2**level)
            layers += [nn.Conv2d(before, after, 4, stride, 1, bias=bias), _norm(norm, after), nn.LeakyReLU(0.2)]
            before = after
        self.body = nn.Sequential(*layers, nn.Conv2d(before, 1, 4, 1, 1))

    def forward(self, noisy: Tensor, image: Tensor) -> Tensor:
        """Return a map of logits (batch, 1, h, w): how real each patch of `image` looks, given `noisy`."""
        logits: Tensor = self.body(torch.cat([noisy, image], dim=1))
        return logits


def initialise(network: nn.Module) -> None:
    """Draw convolution weights from N(0, 0.02) and norm scales from N(1, 0.02), as Pix2Pix does (preset `paper`)."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


def pad_to_multiple(x: Tensor, depth: int) -> Tensor:
    """Return `x` padded at the bottom and right, by its edge, to a multiple of 2**depth."""
    multiple = 2**depth
    height, width = x.shape[-2:]
    return nn.functional.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def restore_batch(generator: nn.Module, x: Tensor, depth: int) -> Tensor:
    """Return the restored images of a batch of any size: padded, run, cut back."""
    padded: Tensor = generator(pad_to_multiple(x, depth))
    return padded[..., : x.shape[-2], : x.shape[-1]]


def checkerboard_score(image: Tensor) -> float:
    """Return the share of an image's spectral energy (mean left out) at the Nyquist frequency of rows or columns, 0..1.

    Transposed convolutions leave a pattern of period two there. `image` is (channels, height, width), even sides.
    """
    grey = image.mean(dim=0)
    power = torch.fft.fft2(grey - grey.mean()).abs() ** 2
    height, width = grey.shape
    nyquist = power[height // 2, :].sum() + power[:, width // 2].sum() - power[height // 2, width // 2]
    return float(nyquist / power.sum().clamp_min(1e-12))
