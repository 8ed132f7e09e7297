"""The training of the embedded segmenter as a state, its loss, and how well masks agree with experts'."""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from buffycoat.core.settings import Runtime
from buffycoat.crop.segmenter import network_input
from buffycoat.crop.segmenter_samples import MaskedImage, Sample, Source, sample_of
from buffycoat.crop.settings import TrainSegmenter
from buffycoat.data.images import BACKGROUND, NUCLEUS, Pixels
from buffycoat.nets.device import mixed_precision

Bools = npt.NDArray[np.bool_]
EMA = 0.995
"""Decay of the averaged weights, which are the ones kept; ours."""


class Agreement(NamedTuple):
    """Of one cell: intersection over union of cell and nucleus, 0..1; the nucleus' is NaN where none was drawn."""

    cell_iou: float
    nucleus_iou: float


class Summary(NamedTuple):
    """Of many cells: medians, 10th percentile, and the share of cells with no overlap at all."""

    cells: int
    cell_iou_median: float
    cell_iou_p10: float
    nucleus_iou_median: float | None
    missed: float


def intersection_over_union(a: Bools, b: Bools) -> float:
    """Return |a and b| / |a or b|, 0..1; two empty regions agree (1)."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def agreement_of(mask: Pixels, image: MaskedImage, label: int) -> Agreement:
    """Return how well a mask (H, W) agrees with the expert's cell `label`."""
    truth = image.cells == label
    nucleus = image.nuclei & truth
    nucleus_iou = intersection_over_union(mask == NUCLEUS, nucleus) if nucleus.any() else float("nan")
    return Agreement(intersection_over_union(mask != BACKGROUND, truth), nucleus_iou)


def nearest_cell(mask: Pixels, image: MaskedImage) -> Agreement:
    """Return the agreement with the expert's cell that the mask shares most with; zeros where it meets none."""
    shared = np.bincount(image.cells[mask != BACKGROUND], minlength=2)
    shared[0] = 0
    if not shared.any():
        return Agreement(0.0, 0.0 if image.nucleus_marked else float("nan"))
    return agreement_of(mask, image, int(shared.argmax()))


def each_cell(masks: list[Pixels], image: MaskedImage) -> list[Agreement]:
    """Return, for each of the expert's cells, the agreement of the mask that fits it best."""
    found = []
    for label in range(1, int(image.cells.max()) + 1):
        fits = [agreement_of(mask, image, label) for mask in masks]
        none = Agreement(0.0, 0.0 if (image.nuclei & (image.cells == label)).any() else float("nan"))
        found.append(max(fits, key=lambda fit: fit.cell_iou, default=none))
    return found


def summarise(found: list[Agreement]) -> Summary:
    """Return the summary of at least one cell; a cell whose best mask does not overlap it counts as missed."""
    cell = np.array([one.cell_iou for one in found])
    nucleus = np.array([one.nucleus_iou for one in found])
    nucleus = nucleus[~np.isnan(nucleus)]
    return Summary(
        cells=len(found),
        cell_iou_median=float(np.median(cell)),
        cell_iou_p10=float(np.percentile(cell, 10)),
        nucleus_iou_median=float(np.median(nucleus)) if nucleus.size else None,
        missed=float((cell == 0).mean()),
    )


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

    def __init__(
        self, network: nn.Module, settings: TrainSegmenter, seed: int, device: torch.device,
        runtime: Runtime = Runtime(),
    ) -> None:  # fmt: skip
        """Take over the network, whose weights are the start."""
        self.settings, self.seed, self.device, self.runtime = settings, seed, device, runtime
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.network).requires_grad_(False).eval()
        encoder = list(self.network.encoder.parameters())
        known = {id(parameter) for parameter in encoder}
        others = [parameter for parameter in self.network.parameters() if id(parameter) not in known]
        groups = [{"params": encoder, "share": 1 / 3}, {"params": others, "share": 1.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=0.01)

    def step(self, sources: list[list[Source]], number: int) -> float:
        """Take step `number`, from 0; return the loss."""
        samples = [sample_of(sources, self.seed, number, place) for place in range(self.settings.batch)]
        views, maps, weights = (part.to(self.device) for part in batch_of(samples))
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * group["share"] * rate_at(number, self.settings)
        self.network.train()
        with mixed_precision(self.device, self.runtime.bf16_on_cpu):
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
        decay = min(EMA, (1 + number) / (10 + number))
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
