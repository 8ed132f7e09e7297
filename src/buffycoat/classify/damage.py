"""The degradations of `buffycoat.degradations` on a batch of tensors, each image with its own kind and severity.

Branch A learns with a share of damaged images, so that it has met what restoration leaves. Their definitions are those
of the simulation; a test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from buffycoat.classify.settings import TrainFold

Draws = dict[str, Tensor]


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1).to(images)


def _fields(images: Tensor, draws: Draws, kind: str, channels: int) -> Tensor:
    """Return random numbers (n, channels, S, S), each image's from a generator with its own seed."""
    seeds = (draws["seed"].double() * 2**24).long().tolist()
    make = torch.randn if kind == "normal" else torch.rand
    side = images.shape[-1]
    fields = []
    for seed in seeds:
        generator = torch.Generator(images.device).manual_seed(2 * seed + (kind == "normal"))
        fields.append(make((channels, side, side), generator=generator, device=images.device))
    return torch.stack(fields)


def salt_and_pepper(images: Tensor, severity: Tensor, draws: Draws) -> Tensor:
    """Set 4 % of the pixels per level to black or white."""
    share = _per_image(0.04 * severity, images)
    field = _fields(images, draws, "uniform", 1)
    salted = torch.where(field > 1 - share / 2, 1.0, images)
    return torch.where(field < share / 2, 0.0, salted)


def coloured_gaussian(images: Tensor, severity: Tensor, draws: Draws) -> Tensor:
    """Add Gaussian noise, independent per channel and stronger where it is bright, and darken."""
    strength = _per_image(severity / 4, images)
    level = images.mean(dim=1, keepdim=True)
    hit = _fields(images, draws, "uniform", 1) < _per_image(0.95 + 0.04 * draws["angle"], images)
    noise = _fields(images, draws, "normal", 3) * (1.7 * 80 / 255 * strength) * (0.6 + 0.8 * level)
    return (images + noise * hit) * (1 - 0.3 * strength)


def blur(images: Tensor, severity: Tensor, draws: Draws) -> Tensor:
    """Blur by a Gaussian of 0.6 % of the side per level, each image with its own width."""
    side = images.shape[-1]
    sigma = (0.006 * side * severity).clamp(min=1e-3)
    reach = max(1, math.ceil(3 * float(sigma.max())))
    offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernels = torch.exp(-(offsets**2) / (2 * sigma[:, None].to(images) ** 2))
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(images.shape[1], dim=0)[:, None]
    # Every channel of every image is a group of its own, so that one call blurs all.
    flat = images.reshape(1, -1, side, side)
    padded = functional.pad(flat, (reach, reach, reach, reach), mode="reflect")
    rows = functional.conv2d(padded, kernels[:, :, None, :], groups=flat.shape[1])
    return functional.conv2d(rows, kernels[:, :, :, None], groups=flat.shape[1]).view_as(images)


def illumination(images: Tensor, severity: Tensor, draws: Draws) -> Tensor:
    """Darken or brighten by up to 10 % per level, with a gradient across the field and a shift of its colour."""
    side, level = images.shape[-1], _per_image(severity, images)
    line = torch.linspace(-1, 1, side, device=images.device)
    angle = _per_image(2 * math.pi * draws["angle"], images)
    slope = (torch.cos(angle) * line.view(1, 1, -1, 1) + torch.sin(angle) * line) * 0.06 * level
    # Two of three are darkened, as in the simulation, and fully; the others are brightened by less.
    shift = torch.where(_per_image(draws["sign"], images) < 2 / 3, -0.1, 0.06) * level
    tint = torch.stack([2 * draws[name] - 1 for name in ("red", "green", "blue")], dim=1)[:, :, None, None].to(images)
    return images * ((1 + shift + slope) * (1 + 0.015 * tint * level))


DAMAGES: dict[str, Callable[[Tensor, Tensor, Draws], Tensor]] = {
    "salt_and_pepper": salt_and_pepper,
    "coloured_gaussian": coloured_gaussian,
    "blur": blur,
    "illumination": illumination,
}
"""Each takes images (n, C, S, S) in 0..1, severities (n,) in 0..4 and the images' draws; the last two on the CPU."""


def damage(images: Tensor, draws: Draws, settings: TrainFold) -> Tensor:
    """Return images (n, 3, S, S) in 0..1 of which a share is damaged, one kind each."""
    if settings.degraded == 0:
        return images
    hit = draws["damaged"] < settings.degraded
    kind = (draws["kind"] * len(settings.degradations)).long()
    severity = draws["severity"] * settings.worst_severity
    for number, name in enumerate(settings.degradations):
        chosen = torch.nonzero(hit & (kind == number))[:, 0]
        if len(chosen):
            own = {key: value[chosen] for key, value in draws.items()}
            place = chosen.to(images.device)
            images[place] = DAMAGES[name](images[place], severity[chosen], own).clamp(0, 1)
    return images
