"""What each recipe does about rare classes: its draws, its loss and weights, its classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from buffycoat.classify.backbones import classifier_names
from buffycoat.classify.settings import TrainFold
from buffycoat.core.errors import InputError

Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

GAMMA = 2.0
"""Focusing of the focal loss (doi 10.1109/ICCV.2017.324; arXiv 2603.16249 too)."""
MARGIN = 0.5
"""Margin of the rarest class in recipe `ldam`, as a cosine (arXiv 1906.07413, public implementation)."""
LOGIT_SCALE = 30.0
"""Factor from cosine to logit in recipe `ldam` (arXiv 1906.07413, public implementation)."""
DEFERRED_FROM = 0.8
"""Share of the epochs after which `ldam` weights the classes in its loss (arXiv 1906.07413: 160 of 200)."""
EFFECTIVE_BETA = 0.9999
"""Beta of the effective number of images behind those weights (arXiv 1906.07413; arXiv 1901.05555 tried 0.9 to it)."""
HEAD_EPOCHS = 5
"""Epochs of the classifier alone in recipe `crt` (arXiv 1910.09217: 10); ours."""
TAU = 1.0
"""Times ln of the class frequency that `logit_adjustment` subtracts from logits (arXiv 2007.07314, consistent at 1)."""


def rarity(counts: Counts, kind: str) -> Values:
    """Return a factor per class that grows as it gets rarer, and 0 for a class without images.

    `none` 1; `log` 1 / (ln(1 + n) + 1e-5) (arXiv 2603.16249); `sqrt` n^-1/2; `balanced` 1 / n.
    """
    n = np.maximum(counts, 1).astype(np.float64)
    factors = {"none": np.ones_like(n), "log": 1 / (np.log1p(n) + 1e-5), "sqrt": n**-0.5, "balanced": 1 / n}[kind]
    return np.asarray(np.where(counts > 0, factors, 0.0))


def class_weights(counts: Counts, kind: str) -> Values:
    """Return the loss weight w_c = K a_c / sum of a per class, a the rarity: mean one over the K that have images."""
    factors = rarity(counts, kind)
    return np.asarray(factors * (counts > 0).sum() / factors.sum())


def effective_number_weights(counts: Counts, beta: float = EFFECTIVE_BETA) -> Values:
    """Return weights by 1 / E_n, E_n = (1 - beta^n) / (1 - beta), mean one over present classes (arXiv 1901.05555)."""
    effective = (1 - beta ** counts.astype(np.float64)) / (1 - beta)
    factors = np.divide(1.0, effective, out=np.zeros_like(effective), where=counts > 0)
    return np.asarray(factors * (counts > 0).sum() / factors.sum())


def ldam_margins(counts: Counts, largest: float = MARGIN) -> Values:
    """Return the margin per class, C n^-1/4 with C such that the rarest has `largest` (arXiv 1906.07413, eq. 13)."""
    margins = np.where(counts > 0, np.maximum(counts, 1).astype(np.float64) ** -0.25, 0.0)
    return np.asarray(margins * (largest / margins.max()))


def log_frequencies(counts: Counts) -> Values:
    """Return ln of each class's share of the images; a class without images gets that of the most frequent one.

    What is subtracted from logits lifts rare classes; a class that was never learned must not be lifted.
    """
    share = np.maximum(counts, 1) / max(int(counts.sum()), 1)
    return np.log(np.where(counts > 0, share, share.max()))


def effective_share(counts: Counts, sampler: Values, weights: Values) -> Values:
    """Return each class's share of the training signal, draws times loss weight, summing to one."""
    signal = counts * sampler * weights
    return np.asarray(signal / signal.sum())


@dataclass(frozen=True)
class Balance:
    """What a loss knows of the classes: training images, current weights and margins, each (K,) float32."""

    counts: Tensor
    weights: Tensor
    margins: Tensor
    settings: TrainFold
    gamma: float = GAMMA
    logit_scale: float = LOGIT_SCALE


Loss = Callable[[Tensor, Tensor, Balance], Tensor]


def focal(logits: Tensor, labels: Tensor, balance: Balance) -> Tensor:
    """Return (1 - p_t)^gamma w_y (-ln p_y), doi 10.1109/ICCV.2017.324.

    p_t is p_y (`textbook`), or exp(-w_y (-ln p_y)) (`weighted`, the public implementation of arXiv 2603.16249).
    """
    plain = functional.cross_entropy(logits, labels, reduction="none")
    weighted = balance.weights[labels] * plain
    p_t = torch.exp(-(plain if balance.settings.focal_p == "textbook" else weighted))
    return (1 - p_t) ** balance.gamma * weighted


def cross_entropy(logits: Tensor, labels: Tensor, balance: Balance) -> Tensor:
    """Return w_y times the cross-entropy against smoothed labels."""
    smoothing = balance.settings.label_smoothing
    return balance.weights[labels] * functional.cross_entropy(
        logits, labels, reduction="none", label_smoothing=smoothing
    )


def ldam(logits: Tensor, labels: Tensor, balance: Balance) -> Tensor:
    """Return w_y CE(s (cos - m_y at y)), from logits s cos of a cosine classifier (arXiv 1906.07413, eq. 12)."""
    lowered = logits - functional.one_hot(labels, logits.shape[1]) * (balance.margins * balance.logit_scale)
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


def sampler_of(recipe: str, settings: TrainFold) -> str:
    """Return how strongly the recipe's draws favour rare classes: `none`, `log`, `sqrt` or `balanced`."""
    if recipe == "focal":
        return settings.rebalance if settings.imbalance in ("sampler", "both") else "none"
    return {"oversampling": settings.rebalance, "crt": "balanced"}.get(recipe, "none")


def weights_of(recipe: str, counts: Counts, epoch: int, settings: TrainFold) -> Values:
    """Return the loss weight of each class (K,) at an epoch (from 0); 0 for a class without images."""
    if recipe == "focal" and settings.imbalance in ("loss", "both"):
        return class_weights(counts, settings.rebalance)
    if recipe == "ldam" and epoch >= round(DEFERRED_FROM * settings.epochs):
        return effective_number_weights(counts)
    return class_weights(counts, "none")


def draw_factors(recipe: str, counts: Counts, settings: TrainFold) -> Values:
    """Return how often an image of each class is drawn, up to a constant."""
    return rarity(counts, sampler_of(recipe, settings))


def both_act(recipe: str, settings: TrainFold) -> bool:
    """Return whether sampler and loss weights multiply."""
    return recipe == "focal" and settings.imbalance == "both"


def epochs_of(recipe: str, settings: TrainFold) -> int:
    """Return how many epochs the recipe trains."""
    return HEAD_EPOCHS if recipe == "crt" else settings.epochs


def with_classifier(network: nn.Module, recipe: str, classes: int) -> nn.Module:
    """Return the network with the classifier that the recipe needs: a cosine one for `ldam`, otherwise its own.

    Raises InputError where the backbone's classifier is not a single linear layer.
    """
    if recipe != "ldam":
        return network
    linear = linear_classifier(network)
    name = classifier_names(network)[0].rpartition(".")[0]
    parent, _, last = name.rpartition(".")
    cosine = CosineClassifier(linear.in_features, classes, LOGIT_SCALE)
    setattr(network.get_submodule(parent), last, cosine)
    return network


def linear_classifier(network: nn.Module) -> nn.Linear:
    """Return the network's classifier; raises InputError where it is not a single linear layer."""
    classifier = network.get_classifier()  # type: ignore[operator]
    if not isinstance(classifier, nn.Linear):
        raise InputError(
            f"classify.train_fold.backbone: its classifier is a {type(classifier).__name__}, not one linear layer;"
            " choose another backbone, or a recipe other than ldam, crt and logit_adjustment"
        )
    return classifier


def adjusted_biases(biases: Values, log_frequencies: Values, tau: float = TAU) -> Values:
    """Return biases that subtract tau ln(frequency) from the logits, arXiv 2007.07314, eq. 9."""
    return np.asarray(biases - tau * log_frequencies)
