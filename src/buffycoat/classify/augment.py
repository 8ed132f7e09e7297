"""Random geometry, stain, light and damage of a batch, with numbers that depend on (seed, epoch, image) alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from buffycoat.classify.settings import TrainFold
from buffycoat.data.random import mixed, stream_seed, uniforms

Draws = dict[str, Tensor]

NUMBERS = (
    "turn", "mirror", "zoom", "down", "right", "brightness", "contrast", "red", "green", "blue",
    "haematoxylin", "eosin", "residual", "damaged", "kind", "severity", "angle", "sign", "seed",
)  # fmt: skip
"""Names of the uniform numbers drawn per image."""
STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
"""Optical density of haematoxylin, eosin and a residual in red, green, blue (Ruifrok and Johnston 2001)."""


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


@dataclass(frozen=True)
class Augmentation:
    """How random the images are; every image is mirrored or not, by chance."""

    rotation: str = "none"
    """`none`, by `quarter` turns, or by `any` angle."""
    shift: float = 0.0
    """Share of the side, each way."""
    scale: float = 0.0
    """Zoom: factor exp(U(-scale, scale))."""
    brightness: float = 0.0
    """Gain of all channels, each way."""
    colour: float = 0.0
    """Gain of each channel, each way."""
    contrast: float = 0.0
    """Contrast around the mean, each way."""
    stain: float = 0.0
    """Strength of each stain (HED jitter), each way."""
    degraded: float = 0.0
    """Share of the drawn images that get one of `degradations`."""
    degradations: tuple[str, ...] = tuple(DAMAGES)
    """What those images suffer from, one each, drawn."""
    worst_severity: float = 2.0
    """Severity is drawn from 0 up to this, of 4."""


AUGMENTATIONS = {
    "standard": Augmentation(scale=0.15, brightness=0.1, colour=0.1, contrast=0.1, stain=0.05, degraded=0.1),
    "paper": Augmentation(brightness=0.2, contrast=0.2),
}
"""By the setting's name. `standard` is ours; `paper` that of arXiv 2603.16249's public code."""


def augmentation_of(settings: TrainFold) -> Augmentation:
    """Return the augmentation that the settings choose."""
    return replace(AUGMENTATIONS[settings.augmentation], rotation=settings.rotation, shift=settings.shift)


def damage(images: Tensor, draws: Draws, how: Augmentation) -> Tensor:
    """Return images (n, 3, S, S) in 0..1 of which a share is damaged, one kind each."""
    if how.degraded == 0:
        return images
    hit = draws["damaged"] < how.degraded
    kind = (draws["kind"] * len(how.degradations)).long()
    severity = draws["severity"] * how.worst_severity
    for number, name in enumerate(how.degradations):
        chosen = torch.nonzero(hit & (kind == number))[:, 0]
        if len(chosen):
            own = {key: value[chosen] for key, value in draws.items()}
            place = chosen.to(images.device)
            images[place] = DAMAGES[name](images[place], severity[chosen], own).clamp(0, 1)
    return images


def draw_numbers(keys: npt.NDArray[np.uint64], seed: int, epoch: int, repeats: npt.NDArray[np.int64]) -> Draws:
    """Return each of NUMBERS, (n,) float32 in [0, 1), for images with these `keys` (randomness.stream_seeds).

    `repeats` (n,) tells apart draws of one image in one epoch. They stay on the CPU: what is done to which image is
    decided there.
    """
    of_epoch = np.uint64(stream_seed(seed, "augment", epoch))
    values = uniforms(mixed(keys ^ of_epoch) + repeats.astype(np.uint64), len(NUMBERS))
    # The largest float32 below one: rounding must not reach 1.
    table = torch.from_numpy(np.minimum(values, 1 - 2.0**-24).astype(np.float32))
    return dict(zip(NUMBERS, table.T.contiguous(), strict=True))


def centred(numbers: Tensor) -> Tensor:
    """Return numbers in [0, 1) as numbers in [-1, 1)."""
    return 2 * numbers - 1


def _angles(numbers: Tensor, kind: str) -> Tensor:
    if kind == "none":
        return torch.zeros_like(numbers)
    turns = numbers if kind == "any" else torch.floor(numbers * 4) / 4
    return turns * (2 * math.pi)


def symmetric(images: Tensor, draws: Draws, how: Augmentation) -> Tensor:
    """Return images (n, C, S, S) turned by quarters and mirrored, exactly: eight groups, no interpolation."""
    quarters = (draws["turn"] * 4).long() if how.rotation != "none" else torch.zeros_like(draws["turn"]).long()
    mirrored = (draws["mirror"] < 0.5).long()
    result = torch.empty_like(images)
    for element in range(8):
        chosen = torch.nonzero(quarters + 4 * mirrored == element)[:, 0]
        if len(chosen):
            place = chosen.to(images.device)
            some = images[place].flip(3) if element >= 4 else images[place]
            result[place] = torch.rot90(some, element % 4, (2, 3))
    return result


def move(images: Tensor, draws: Draws, how: Augmentation) -> Tensor:
    """Return images (n, 3, S, S) rotated, mirrored, zoomed and shifted; what comes from outside mirrors the edge."""
    if how.rotation != "any" and how.scale == how.shift == 0:
        return symmetric(images, draws, how)
    angle = _angles(draws["turn"], how.rotation)
    mirror = torch.where(draws["mirror"] < 0.5, -1.0, 1.0)
    zoom = torch.exp(centred(draws["zoom"]) * how.scale)
    down, right = (centred(draws[name]) * (2 * how.shift) for name in ("down", "right"))
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = torch.stack([cosine * mirror, -sine, right, sine * mirror, cosine, down], dim=1)
    grid = functional.affine_grid(rows.view(-1, 2, 3).to(images), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def recolour(images: Tensor, draws: Draws, how: Augmentation) -> Tensor:
    """Return images (n, 3, S, S) in 0..1 with random brightness, contrast and colour, still in 0..1."""
    channels = torch.stack([centred(draws[name]) for name in ("red", "green", "blue")], dim=1).to(images)
    brightness, contrast = (centred(draws[name]).to(images)[:, None] for name in ("brightness", "contrast"))
    gain = ((1 + how.brightness * brightness) * (1 + how.colour * channels))[:, :, None, None]
    steeper = (1 + how.contrast * contrast)[:, :, None, None]
    # (x - m) c g + m g as one product and one sum per pixel.
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return torch.addcmul(mean * (1 - steeper) * gain, images, steeper * gain).clamp_(0, 1)


def restain(images: Tensor, draws: Draws, how: Augmentation) -> Tensor:
    """Return images (n, 3, S, S) in 0..1 whose stains are stronger or weaker: HED jitter (arXiv 1902.06543).

    The optical densities are divided into three stains, each is scaled, and they are added up again.
    """
    if how.stain == 0:
        return images
    stains = torch.tensor(STAINS, dtype=torch.float64)
    stains = stains / stains.norm(dim=1, keepdim=True)
    scale = torch.stack([centred(draws[name]) for name in ("haematoxylin", "eosin", "residual")], dim=1).double()
    # Row vectors: density = stains-to-colours of amounts, so density' = density inv(S) diag(scale) S.
    change = torch.linalg.inv(stains) @ torch.diag_embed(1 + how.stain * scale) @ stains
    density = torch.log(images.clamp(min=1 / 255))
    changed = torch.einsum("nchw,ncd->ndhw", density, change.to(images))
    return torch.exp(changed).clamp_(0, 1)


def augment(images: Tensor, draws: Draws, how: Augmentation) -> Tensor:
    """Return a random version of images (n, 3, S, S) float32 in 0..1."""
    moved = recolour(restain(move(images, draws, how), draws, how), draws, how)
    return damage(moved, draws, how)
