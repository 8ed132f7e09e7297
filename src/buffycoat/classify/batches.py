"""What a training step needs, made ahead of it: which images, their numbers, labels and pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from buffycoat.classify.augment import Draws, draw_numbers
from buffycoat.classify.data import Crops
from buffycoat.randomness import stream, stream_seeds


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
        batch: int, seed: int, share: slice = slice(None),
    ) -> None:  # fmt: skip
        """Keep the images (n ids, labels 0..K-1); `chances` (n,) sum to one, None: every image once per epoch.

        `share` of each batch is made, where other processes make the rest.
        """
        self.share = share
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
        drawn, repeats = (values[part][self.share] for values in self._epoch[1:])
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
