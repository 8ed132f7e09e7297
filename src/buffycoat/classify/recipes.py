"""What each recipe does about rare classes: its draws, its loss weights, its classifier."""

from __future__ import annotations

import numpy as np
from torch import nn

from buffycoat.classify.backbones import classifier_names
from buffycoat.classify.imbalance import Counts, Values, class_weights, effective_number_weights, rarity
from buffycoat.classify.losses import CosineClassifier
from buffycoat.classify.settings import TrainFold
from buffycoat.errors import InputError


def sampler_of(recipe: str, settings: TrainFold) -> str:
    """Return how strongly the recipe's draws favour rare classes: `none`, `log`, `sqrt` or `balanced`."""
    if recipe == "focal":
        return settings.rebalance if settings.imbalance in ("sampler", "both") else "none"
    return {"oversampling": settings.rebalance, "crt": "balanced"}.get(recipe, "none")


def weights_of(recipe: str, counts: Counts, epoch: int, settings: TrainFold) -> Values:
    """Return the loss weight of each class (K,) at an epoch (from 0); 0 for a class without images."""
    if recipe == "focal" and settings.imbalance in ("loss", "both"):
        return class_weights(counts, settings.rebalance)
    if recipe == "ldam" and epoch >= round(settings.deferred_from * settings.epochs):
        return effective_number_weights(counts, settings.effective_beta)
    return class_weights(counts, "none")


def draw_factors(recipe: str, counts: Counts, settings: TrainFold) -> Values:
    """Return how often an image of each class is drawn, up to a constant."""
    return rarity(counts, sampler_of(recipe, settings))


def both_act(recipe: str, settings: TrainFold) -> bool:
    """Return whether sampler and loss weights multiply."""
    return recipe == "focal" and settings.imbalance == "both"


def epochs_of(recipe: str, settings: TrainFold) -> int:
    """Return how many epochs the recipe trains."""
    return settings.head_epochs if recipe == "crt" else settings.epochs


def with_classifier(network: nn.Module, recipe: str, classes: int, settings: TrainFold) -> nn.Module:
    """Return the network with the classifier that the recipe needs: a cosine one for `ldam`, otherwise its own.

    Raises InputError where the backbone's classifier is not a single linear layer.
    """
    if recipe != "ldam":
        return network
    linear = linear_classifier(network)
    name = classifier_names(network)[0].rpartition(".")[0]
    parent, _, last = name.rpartition(".")
    cosine = CosineClassifier(linear.in_features, classes, settings.logit_scale)
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


def adjusted_biases(biases: Values, log_frequencies: Values, tau: float) -> Values:
    """Return biases that subtract tau ln(frequency) from the logits, arXiv 2007.07314, eq. 9."""
    return np.asarray(biases - tau * log_frequencies)
