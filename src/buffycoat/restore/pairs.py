"""Pairs of a degraded and a clean crop, each made from (seed, what for, number) alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from buffycoat.data.degradations import DEGRADATIONS
from buffycoat.data.images import Pixels
from buffycoat.data.random import stream
from buffycoat.restore.settings import TrainGan

T = TypeVar("T")


@dataclass(frozen=True)
class CleanCrops:
    """Clean crops (n, S, S, 3) uint8 and the side of the source window of each, (n,) pixels."""

    pixels: Pixels
    window_px: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of crops."""
        return len(self.pixels)


def to_tensor(images: Pixels) -> Tensor:
    """Return (n, H, W, 3) uint8 as (n, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 127.5 - 1


def to_pixels(images: Tensor) -> Pixels:
    """Return (n, 3, H, W) in [-1, 1] as (n, H, W, 3) uint8."""
    values = ((images.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(values.numpy().transpose(0, 2, 3, 1))


def degrade_at_source(crop: Pixels, window_px: int, kind: str, severity: float, rng: np.random.Generator) -> Pixels:
    """Return the crop (S, S, 3) as it would be cut from a source image degraded by `kind`.

    Damage happens in the source image, and shrinking the window to the crop averages noise away. So the crop is
    enlarged to its window's size, degraded there, and what that changed is shrunk as the cropping does and added to the
    crop: the crop's own detail is not lost by the detour. Where the window is no larger than the crop, the crop itself
    is degraded.
    """
    side = crop.shape[0]
    if window_px <= side:
        return DEGRADATIONS[kind](crop, severity, rng)
    window = np.asarray(cv2.resize(crop, (window_px, window_px), interpolation=cv2.INTER_LINEAR), np.uint8)
    change = DEGRADATIONS[kind](window, severity, rng).astype(np.float32) - window
    shrunk = cv2.resize(change, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(np.clip(np.rint(crop + shrunk), 0, 255), np.uint8)


def degrade(crop: Pixels, window_px: int, settings: TrainGan, rng: np.random.Generator) -> tuple[Pixels, str]:
    """Return a degraded copy of a crop and the kind of degradation; kind and severity are drawn."""
    kind = settings.kinds[int(rng.integers(len(settings.kinds)))]
    severity = float(rng.uniform(*settings.severity))
    return degrade_at_source(crop, window_px, kind, severity, rng), kind


def training_batch(crops: CleanCrops, settings: TrainGan, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Return (noisy, clean) tensors of one step; crops are drawn with replacement and turned or mirrored at random."""
    rng = stream(seed, "gan", step)
    side = crops.pixels.shape[1]
    patch = min(settings.patch_px or side, side)
    noisy, clean = [], []
    for place in rng.integers(len(crops), size=settings.batch):
        crop = np.rot90(crops.pixels[place], int(rng.integers(4)))
        crop = np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)
        damaged = degrade(crop, int(crops.window_px[place]), settings, rng)[0]
        # Blur and light depend on the whole field, so the patch is cut after they have acted.
        top, left = rng.integers(side - patch + 1, size=2)
        patch_of = np.s_[top : top + patch, left : left + patch]
        noisy.append(damaged[patch_of])
        clean.append(crop[patch_of])
    return to_tensor(np.stack(noisy)), to_tensor(np.stack(clean))


def held_out_pairs(crops: CleanCrops, settings: TrainGan, seed: int) -> tuple[Pixels, list[str]]:
    """Return one degraded version of each held-out crop and its kind; the same at every judgement."""
    made = [
        degrade(crop, int(window_px), settings, stream(seed, "held out", place))
        for place, (crop, window_px) in enumerate(zip(crops.pixels, crops.window_px, strict=True))
    ]
    return np.stack([noisy for noisy, _ in made]), [kind for _, kind in made]


def psnr(image: Pixels, truth: Pixels) -> float:
    """Return the peak signal-to-noise ratio in dB; 100 for equal images."""
    error = float(np.mean((image.astype(np.float64) - truth.astype(np.float64)) ** 2))
    return 100.0 if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(image: Pixels, truth: Pixels) -> float:
    """Return the structural similarity of two (H, W, 3) uint8 images, -1 .. 1 (doi 10.1109/TIP.2003.819861)."""
    from skimage.metrics import structural_similarity

    return float(structural_similarity(image, truth, channel_axis=2))
