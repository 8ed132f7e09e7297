"""The training of the embedded segmenter as a state that can be stepped, stored and taken up again."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from buffycoat.crop.segmenter import network_input
from buffycoat.crop.segmenter_samples import Sample, Source, sample_of
from buffycoat.crop.settings import TrainSegmenter
from buffycoat.device import mixed_precision


def map_loss(logits: Tensor, maps: Tensor, weights: Tensor) -> Tensor:
    """Return binary cross-entropy plus soft Dice loss, each a mean over the maps, of pixels where `weights` is 1.

    All are (N, maps, S, S); maps and weights in 0..1. Dice is taken over the whole batch, so that views without a cell
    count too.
    """
    bce = nn.functional.binary_cross_entropy_with_logits(logits, maps, weight=weights, reduction="none")
    seen = weights.sum(dim=(0, 2, 3)).clamp_min(1)
    chance = logits.sigmoid() * weights
    truth = maps * weights
    overlap = 2 * (chance * truth).sum(dim=(0, 2, 3)) + 1
    dice = 1 - overlap / (chance.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3)) + 1)
    return (bce.sum(dim=(0, 2, 3)) / seen).mean() + dice.mean()


def batch_of(samples: list[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    """Return input (N, 3, S, S), maps (N, maps, S, S) and weights (N, maps, S, S) of some samples."""
    maps = torch.from_numpy(np.stack([sample.maps for sample in samples]))
    weights = torch.from_numpy(np.stack([sample.weights for sample in samples]))
    return network_input([sample.view for sample in samples]), maps, weights


def rate_at(step: int, settings: TrainSegmenter) -> float:
    """Return the share of the learning rate at a step: 5 % of the steps up, then a cosine down to zero."""
    warm = max(1, round(0.05 * settings.steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, settings.steps - warm)))


class SegmenterTraining:
    """Network, its optimiser and its running average; the encoder learns at a third of the decoder's rate."""

    def __init__(self, network: nn.Module, settings: TrainSegmenter, seed: int, device: torch.device) -> None:
        """Take over the network, whose weights are the start."""
        self.settings, self.seed, self.device = settings, seed, device
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.network).requires_grad_(False).eval()
        encoder = list(self.network.encoder.parameters())
        known = {id(parameter) for parameter in encoder}
        others = [parameter for parameter in self.network.parameters() if id(parameter) not in known]
        groups = [{"params": encoder, "share": 1 / 3}, {"params": others, "share": 1.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.rate(), weight_decay=0.01)

    def step(self, sources: list[list[Source]], number: int) -> float:
        """Take step `number`, from 0; return the loss."""
        samples = [sample_of(sources, self.seed, number, place) for place in range(self.settings.batch)]
        views, maps, weights = (part.to(self.device) for part in batch_of(samples))
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.rate() * group["share"] * rate_at(number, self.settings)
        self.network.train()
        with mixed_precision(self.device):
            logits = self.network(views.to(memory_format=torch.channels_last)).float()
        loss = map_loss(logits, maps, weights)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self._average(number)
        return float(loss.item())

    def _average(self, number: int) -> None:
        # The average follows quickly at first, so that a short training is not held back by its start.
        decay = min(self.settings.ema, (1 + number) / (10 + number))
        with torch.no_grad():
            for mean, now in zip(self.averaged.state_dict().values(), self.network.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(now, 1 - decay)
                else:
                    mean.copy_(now)

    def state(self) -> dict[str, Any]:
        """Return all that a later step depends on."""
        parts = {"network": self.network, "averaged": self.averaged, "optimiser": self.optimiser}
        return {name: part.state_dict() for name, part in parts.items()}

    def load(self, state: dict[str, Any]) -> None:
        """Take up a stored state."""
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
