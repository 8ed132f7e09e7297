"""Pairs of a degraded and a clean crop, each made from (seed, what for, number) alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from buffycoat.degradations import DEGRADATIONS
from buffycoat.images import Pixels
from buffycoat.randomness import stream
from buffycoat.restore.settings import TrainGan


def to_tensor(images: Pixels) -> Tensor:
    """Return (n, H, W, 3) uint8 as (n, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 127.5 - 1


def to_pixels(images: Tensor) -> Pixels:
    """Return (n, 3, H, W) in [-1, 1] as (n, H, W, 3) uint8."""
    values = ((images.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(values.numpy().transpose(0, 2, 3, 1))


def degrade(crop: Pixels, settings: TrainGan, rng: np.random.Generator) -> tuple[Pixels, str, float]:
    """Return a degraded copy of a crop, the kind of degradation, and its severity."""
    kind = settings.kinds[int(rng.integers(len(settings.kinds)))]
    severity = float(rng.uniform(*settings.severity))
    return DEGRADATIONS[kind](crop, severity, rng), kind, severity


def training_batch(crops: Pixels, settings: TrainGan, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Return (noisy, clean) tensors of one step; crops are drawn with replacement and turned or mirrored at random."""
    rng = stream(seed, "gan", step)
    noisy, clean = [], []
    for place in rng.integers(len(crops), size=settings.batch):
        crop = np.rot90(crops[place], int(rng.integers(4)))
        crop = np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)
        clean.append(crop)
        noisy.append(degrade(crop, settings, rng)[0])
    return to_tensor(np.stack(noisy)), to_tensor(np.stack(clean))


def held_out_pairs(crops: Pixels, settings: TrainGan, seed: int) -> tuple[Pixels, list[str]]:
    """Return one degraded version of each held-out crop and its kind; the same at every judgement."""
    made = [degrade(crop, settings, stream(seed, "held out", place)) for place, crop in enumerate(crops)]
    return np.stack([noisy for noisy, _, _ in made]), [kind for _, kind, _ in made]


def psnr(image: Pixels, truth: Pixels) -> float:
    """Return the peak signal-to-noise ratio in dB; 100 for equal images."""
    error = float(np.mean((image.astype(np.float64) - truth.astype(np.float64)) ** 2))
    return 100.0 if error == 0 else float(10 * np.log10(255**2 / error))
