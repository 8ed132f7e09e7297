"""The recipes' losses: logits (batch, K) float32, labels (batch,) int64, weights (K,) float32 to a scalar."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from buffycoat.classify.settings import TrainFold

Loss = Callable[[Tensor, Tensor, Tensor, TrainFold], Tensor]


def focal(logits: Tensor, labels: Tensor, weights: Tensor, settings: TrainFold) -> Tensor:
    """Return the mean of (1 - p_t)^gamma w_y (-ln p_y), doi 10.1109/ICCV.2017.324.

    p_t is p_y (`textbook`), or exp(-w_y (-ln p_y)) (`weighted`, the public implementation of arXiv 2603.16249).
    """
    plain = functional.cross_entropy(logits, labels, reduction="none")
    weighted = weights[labels] * plain
    p_t = torch.exp(-(plain if settings.focal_p == "textbook" else weighted))
    return ((1 - p_t) ** settings.gamma * weighted).mean()


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, settings: TrainFold) -> Tensor:
    """Return the weighted mean of the cross-entropy against smoothed labels."""
    return functional.cross_entropy(logits, labels, weights, label_smoothing=settings.label_smoothing)


RECIPES: dict[str, Loss] = {"focal": focal, "cross_entropy": cross_entropy}
