"""How well held-out crops are restored: PSNR, SSIM, checkerboards, and a picture that grows with the training."""

from __future__ import annotations

import logging

import cv2
import numpy as np
import torch
from torch import nn

from buffycoat.batching import filled
from buffycoat.device import mixed_precision
from buffycoat.images import Pixels
from buffycoat.restore.networks import checkerboard_score, restore_batch
from buffycoat.restore.pairs import CleanCrops, held_out_pairs, psnr, ssim, to_pixels, to_tensor
from buffycoat.restore.settings import TrainGan

log = logging.getLogger("buffycoat")
SAMPLES = 8
"""Rows of the sheet of samples."""
SAMPLE_PX = 96
"""Largest side of a sample in the sheet, pixels: a training of fifty judgements still fits on a page."""
HEADING_PX = 16


def restored_by(generator: nn.Module, noisy: Pixels, depth: int, batch: int, device: torch.device) -> Pixels:
    """Return the generator's restoration of (n, H, W, 3) uint8 crops of any size."""
    generator.eval()
    parts = []
    with torch.inference_mode(), mixed_precision(device):
        for start in range(0, len(noisy), batch):
            x = to_tensor(noisy[start : start + batch])
            full = filled(x, batch).to(device, memory_format=torch.channels_last)
            parts.append(to_pixels(restore_batch(generator, full, depth)[: len(x)]))
    return np.concatenate(parts)


def _means(images: Pixels, truth: Pixels, name: str) -> dict[str, float]:
    pairs = list(zip(images, truth, strict=True))
    return {
        f"psnr_{name}": float(np.mean([psnr(a, b) for a, b in pairs])),
        f"ssim_{name}": float(np.mean([ssim(a, b) for a, b in pairs])),
    }


def checkerboard(images: Pixels) -> float:
    """Return the mean checkerboard score of (n, H, W, 3) crops, cut to even sides."""
    even = images[:, : images.shape[1] // 2 * 2, : images.shape[2] // 2 * 2]
    return float(np.mean([checkerboard_score(image) for image in to_tensor(even)]))


class Judge:
    """Held-out pairs, the same at every judgement, and what noisy and median-filtered ones score."""

    def __init__(self, held: CleanCrops, settings: TrainGan, seed: int) -> None:
        """Make the pairs and score what does not change."""
        self.clean = held.pixels
        self.noisy, self.kinds = held_out_pairs(held, settings, seed)
        median = np.stack([cv2.medianBlur(image, 3) for image in self.noisy])
        self.constant = {
            **_means(self.noisy, self.clean, "noisy"),
            **_means(median, self.clean, "median"),
            "checkerboard_clean": checkerboard(self.clean),
        }

    def scores(self, restored: Pixels) -> dict[str, float]:
        """Return the scores of the restored crops beside those of the others; log PSNR per kind."""
        for kind in sorted(set(self.kinds)):
            chosen = [k for k, other in enumerate(self.kinds) if other == kind]
            mean = np.mean([psnr(restored[k], self.clean[k]) for k in chosen])
            log.info("held out, %s: restored %.2f dB", kind, mean)
        found = _means(restored, self.clean, "restored")
        return {**self.constant, **found, "checkerboard_restored": checkerboard(restored)}

    def samples(self, images: Pixels) -> Pixels:
        """Return one column of the sheet: some of the crops, at most SAMPLE_PX wide, one below the other."""
        side = min(SAMPLE_PX, images.shape[1])
        chosen = images[: min(SAMPLES, len(images))]
        small = [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in chosen]
        return np.asarray(np.vstack(small), np.uint8)

    def sheet(self, columns: dict[str, Pixels]) -> Pixels:
        """Return the sheet: noisy, restored after each judgement (`columns`, by heading), clean."""
        everything = {"noisy": self.samples(self.noisy), **columns, "clean": self.samples(self.clean)}
        return np.hstack([_headed(column, heading) for heading, column in everything.items()])


def _headed(column: Pixels, heading: str) -> Pixels:
    band = np.full((HEADING_PX, column.shape[1], 3), 255, np.uint8)
    cv2.putText(band, heading, (2, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.34, (34, 48, 60), 1, cv2.LINE_AA)
    return np.vstack([band, column])
