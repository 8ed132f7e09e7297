"""Mixup and CutMix: each image with another of its batch, by numbers of its own."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import beta
from torch import Tensor

from buffycoat.classify.augment import Draws
from buffycoat.classify.settings import TrainFold


def mix(images: Tensor, labels: Tensor, draws: Draws, settings: TrainFold) -> tuple[Tensor, Tensor, Tensor]:
    """Return images (n, 3, S, S), the other label of each (n,), and the share (n,) of the image's own label, 0..1.

    The partner is the next image of the batch. Where both are set, each image gets one of the two, half the time.
    """
    whole = torch.ones(len(images), device=images.device)
    if not settings.mixup and not settings.cutmix:
        return images, labels, whole
    partner, others = images.roll(1, 0), labels.roll(1, 0)
    chance = 1.0 if not settings.mixup else 0.5 if settings.cutmix else 0.0
    chosen = draws["height"].numpy() < chance
    alpha = np.where(chosen, settings.cutmix or 1.0, settings.mixup or 1.0)
    own = torch.from_numpy(beta.ppf(draws["blend"].numpy(), alpha, alpha)).to(images)
    cut = torch.from_numpy(chosen).to(images.device)
    box = boxes(1 - own, draws, images.shape[-1])
    blended = torch.lerp(partner, images, own.view(-1, 1, 1, 1))
    pasted = torch.where(box[:, None], partner, images)
    mixed = torch.where(cut.view(-1, 1, 1, 1), pasted, blended)
    # A box cut off by the border is smaller than it was drawn: the share is what was really pasted.
    left = 1 - box.float().mean(dim=(1, 2))
    return mixed, others, torch.where(cut, left, own)


def boxes(area: Tensor, draws: Draws, side: int) -> Tensor:
    """Return masks (n, S, S), true in a square of `area` (n,) of the image around a drawn centre (arXiv 1905.04899)."""
    half = (area.clamp(min=0).sqrt() * side / 2).view(-1, 1, 1)
    rows = torch.arange(side, device=area.device).view(1, -1, 1) + 0.5
    down, right = ((draws[name] * side).view(-1, 1, 1).to(area) for name in ("down", "right"))
    return ((rows - down).abs() < half) & ((rows.transpose(1, 2) - right).abs() < half)
