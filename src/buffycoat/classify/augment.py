"""Random geometry and colour of a batch, with parameters that depend on (seed, epoch, image) alone."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from buffycoat.classify.settings import TrainFold
from buffycoat.randomness import stream

PARAMETERS = 11
"""Uniform numbers drawn per image: angle, flip, zoom, two shifts, brightness, contrast, three gains, one spare."""


def draw_parameters(image_ids: list[str], seed: int, epoch: int, repeats: list[int]) -> Tensor:
    """Return (n, PARAMETERS) numbers in [0, 1); `repeats` tells apart draws of one image in one epoch."""
    rows = [
        stream(seed, "augment", epoch, image_id, repeat).random(PARAMETERS)
        for image_id, repeat in zip(image_ids, repeats, strict=True)
    ]
    return torch.from_numpy(np.stack(rows)).float()


def _angles(numbers: Tensor, kind: str) -> Tensor:
    if kind == "none":
        return torch.zeros_like(numbers)
    turns = numbers if kind == "any" else torch.floor(numbers * 4) / 4
    return turns * (2 * math.pi)


def move(images: Tensor, numbers: Tensor, settings: TrainFold) -> Tensor:
    """Return images (n, 3, S, S) rotated, mirrored, zoomed and shifted; what comes from outside mirrors the edge."""
    angle = _angles(numbers[:, 0], settings.rotation)
    mirror = torch.where(numbers[:, 1] < 0.5, -1.0, 1.0) if settings.flip else torch.ones_like(angle)
    zoom = torch.exp((2 * numbers[:, 2] - 1) * settings.scale)
    shift = (2 * numbers[:, 3:5] - 1) * (2 * settings.shift)
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = torch.stack([cosine * mirror, -sine, shift[:, 0], sine * mirror, cosine, shift[:, 1]], dim=1)
    grid = functional.affine_grid(rows.view(-1, 2, 3).to(images), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def recolour(images: Tensor, numbers: Tensor, settings: TrainFold) -> Tensor:
    """Return images (n, 3, S, S) in 0..1 with random brightness, contrast and colour, still in 0..1."""
    centred = (2 * numbers[:, 5:10] - 1).to(images)
    gain = (1 + settings.brightness * centred[:, 0:1]) * (1 + settings.colour * centred[:, 2:5])
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    contrast = (1 + settings.contrast * centred[:, 1]).view(-1, 1, 1, 1)
    return (((images - mean) * contrast + mean) * gain.view(-1, 3, 1, 1)).clamp(0, 1)


def augment(images: Tensor, numbers: Tensor, settings: TrainFold) -> Tensor:
    """Return a random version of images (n, 3, S, S) float32 in 0..1."""
    return recolour(move(images, numbers, settings), numbers, settings)
