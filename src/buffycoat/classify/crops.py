"""Crops as batches of tensors, from shards or the GPU's own memory, and the draws of an epoch's batches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from buffycoat.classify.augment import Draws, draw_numbers
from buffycoat.data.images import BACKGROUND, CellImages
from buffycoat.data.random import stream, stream_seeds
from buffycoat.data.tables.restore import CELLS

log = logging.getLogger("buffycoat")


RESIDENT_SHARE = 0.5
"""All crops stay on the GPU where they fit into this share of its free memory; ours."""


class Crops:
    """The crops of a table of cells, found by position or by image_id."""

    def __init__(self, images: CellImages, background: str, size_px: int, device: torch.device) -> None:
        """Take the cells as they are; no pixel is read yet."""
        self.images = images
        self.places = {image_id: place for place, image_id in enumerate(self.images.ids)}
        self.background, self.size_px, self.device = background, size_px, device
        self.resident: Tensor | None = None
        """All crops on the device, (n, S, S, 3) uint8, once `make_resident` has put them there."""
        self._slots = np.full(len(self.images), -1)

    @classmethod
    def read(cls, cells: Path, background: str, size_px: int, device: torch.device) -> Crops:
        """Return the crops of the table `cells`, its shards mapped."""
        return cls(CellImages(CELLS.read(cells), cells), background, size_px, device)

    def positions(self, image_ids: pd.Series) -> list[int]:
        """Return the position of each image."""
        return [self.places[str(image_id)] for image_id in image_ids]

    def make_resident(self, positions: Sequence[int]) -> bool:
        """Put these crops on the GPU where they fit into RESIDENT_SHARE of its free memory; return whether they did."""
        if self.device.type != "cuda" or not positions:
            return False
        side = self.images.crop(positions[0]).shape[0]
        needed, free = len(positions) * side * side * 3, torch.cuda.mem_get_info(self.device)[0]
        if needed > RESIDENT_SHARE * free:
            log.info("crops need %.1f GB of the GPU's free %.1f: they stay in files", needed / 1e9, free / 1e9)
            return False
        self._keep(positions, side)
        log.info("%d crops (%.1f GB) stay on the GPU", len(positions), needed / 1e9)
        return True

    def _keep(self, positions: Sequence[int], side: int) -> None:
        kept = torch.empty((len(positions), side, side, 3), dtype=torch.uint8, device=self.device)
        for start in range(0, len(positions), 512):
            part = positions[start : start + 512]
            kept[start : start + len(part)] = self.pixels(part)
        self._slots[np.asarray(positions)] = np.arange(len(positions))
        self.resident = kept

    def pixels(self, positions: Sequence[int]) -> Tensor:
        """Return crops (n, S, S, 3) uint8 on the device, on white where that is the setting; safe in any thread.

        To a GPU they travel from pinned memory, so that the thread that made them need not wait for the copy.
        """
        if self.resident is not None:
            slots = torch.from_numpy(self._slots[np.asarray(positions)])
            if bool((slots >= 0).all()):
                return self.resident[slots.to(self.device)]
        return self.on_background(self.images.crops(positions), positions)

    def on_background(self, pixels: np.ndarray, positions: Sequence[int]) -> Tensor:
        """Return `pixels`, (n, S, S, 3) uint8 of the crops at `positions`, on the device and on the set background."""
        crops = self._sent(pixels)
        if self.background == "white":
            masks = self._sent(np.stack([self.images.mask(position) for position in positions]))
            crops = torch.where((masks == BACKGROUND)[..., None], 255, crops)
        return crops

    def _sent(self, pixels: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(pixels)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def batch(self, positions: Sequence[int]) -> Tensor:
        """Return (n, 3, size_px, size_px) float32 in 0..1 on the device."""
        return self.as_images(self.pixels(positions))

    def as_images(self, pixels: Tensor) -> Tensor:
        """Return crops (n, S, S, 3) uint8 as (n, 3, size_px, size_px) float32 in 0..1, channels last."""
        images = pixels.permute(0, 3, 1, 2).float() / 255
        if images.shape[-1] != self.size_px:
            images = functional.interpolate(images, size=(self.size_px, self.size_px), mode="bilinear", antialias=True)
        return images.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Batch:
    """Pixels (n, S, S, 3) uint8 and labels (n,) int64 on the device, and the images' random numbers on the CPU.

    What is done to which image is then decided without asking the GPU, which would have to finish first.
    """

    pixels: Tensor
    labels: Tensor
    draws: Draws


class Sampler:
    """Draws training images; what it gives for an epoch and a step depends on those two and the seed alone."""

    def __init__(
        self, crops: Crops, ids: list[str], labels: npt.NDArray[np.int64], chances: npt.NDArray[np.float64] | None,
        batch: int, seed: int,
    ) -> None:  # fmt: skip
        """Keep the images (n ids, labels 0..K-1); `chances` (n,) sum to one, None: every image once per epoch."""
        self.crops, self.labels, self.chances, self.seed = crops, torch.tensor(labels), chances, seed
        self.places = np.array([crops.places[image_id] for image_id in ids])
        self.keys = stream_seeds(0, ids)
        self.batch = min(batch, len(ids))
        self.steps = len(ids) // self.batch
        """Steps of an epoch; all are full, so what an epoch leaves over is left out of it."""
        self._epoch: tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None

    def drawn(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the images of an epoch, (steps * batch,), with replacement where there are chances."""
        rng, size = stream(self.seed, "sampler", epoch), self.steps * self.batch
        if self.chances is None:
            return rng.permutation(len(self.places))[:size]
        return rng.choice(len(self.places), size=size, p=self.chances)

    def make(self, number: int) -> Batch:
        """Return the batch of step `number`, counted through all epochs."""
        epoch, step = divmod(number, self.steps)
        if self._epoch is None or self._epoch[0] != epoch:
            drawn = self.drawn(epoch)
            self._epoch = (epoch, drawn, occurrences(drawn))
        part = slice(step * self.batch, (step + 1) * self.batch)
        drawn, repeats = (values[part] for values in self._epoch[1:])
        return Batch(
            self.crops.pixels(self.places[drawn].tolist()),
            self.labels[drawn].to(self.crops.device),
            draw_numbers(self.keys[drawn], self.seed, epoch, repeats),
        )


def occurrences(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return, for each value, how often it stood before: 0 at its first place."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.searchsorted(ordered, ordered, side="left")
    counted = np.empty(len(values), np.int64)
    counted[order] = np.arange(len(values)) - first
    return counted
