"""The recipes' losses: logits (n, K) float32 and labels (n,) int64 to one loss per image, (n,)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from buffycoat.classify.settings import TrainFold


@dataclass(frozen=True)
class Balance:
    """What a loss knows of the classes: training images, current weights and margins, each (K,) float32."""

    counts: Tensor
    weights: Tensor
    margins: Tensor
    settings: TrainFold


Loss = Callable[[Tensor, Tensor, Balance], Tensor]


def focal(logits: Tensor, labels: Tensor, balance: Balance) -> Tensor:
    """Return (1 - p_t)^gamma w_y (-ln p_y), doi 10.1109/ICCV.2017.324.

    p_t is p_y (`textbook`), or exp(-w_y (-ln p_y)) (`weighted`, the public implementation of arXiv 2603.16249).
    """
    settings = balance.settings
    plain = functional.cross_entropy(logits, labels, reduction="none")
    weighted = balance.weights[labels] * plain
    p_t = torch.exp(-(plain if settings.focal_p == "textbook" else weighted))
    return (1 - p_t) ** settings.gamma * weighted


def cross_entropy(logits: Tensor, labels: Tensor, balance: Balance) -> Tensor:
    """Return w_y times the cross-entropy against smoothed labels."""
    smoothing = balance.settings.label_smoothing
    return balance.weights[labels] * functional.cross_entropy(
        logits, labels, reduction="none", label_smoothing=smoothing
    )


def ldam(logits: Tensor, labels: Tensor, balance: Balance) -> Tensor:
    """Return w_y CE(s (cos - m_y at y)), from logits s cos of a cosine classifier (arXiv 1906.07413, eq. 12)."""
    lowered = logits - functional.one_hot(labels, logits.shape[1]) * (balance.margins * balance.settings.logit_scale)
    return balance.weights[labels] * functional.cross_entropy(lowered, labels, reduction="none")


def balanced_softmax(logits: Tensor, labels: Tensor, balance: Balance) -> Tensor:
    """Return -ln(n_y exp(z_y) / sum_j n_j exp(z_j)), arXiv 2007.10740; a class without images drops out."""
    return functional.cross_entropy(logits + torch.log(balance.counts), labels, reduction="none")


LOSSES: dict[str, Loss] = {
    "focal": focal,
    "cross_entropy": cross_entropy,
    "oversampling": cross_entropy,
    "ldam": ldam,
    "crt": cross_entropy,
    "balanced_softmax": balanced_softmax,
}
"""The loss of each recipe that trains; `logit_adjustment` only moves the biases of a trained network."""


class CosineClassifier(nn.Module):
    """A classifier whose logits are `scale` times the cosine between features (n, F) and one vector per class."""

    def __init__(self, features: int, classes: int, scale: float) -> None:
        """Draw the class vectors; they have no bias."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, features))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits, (n, K)."""
        cosine = functional.linear(functional.normalize(features), functional.normalize(self.weight))
        return self.scale * cosine
