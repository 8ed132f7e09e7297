"""Ways that are compared, by name: long-tail recipes of branch A, restorations before it, what is done after it."""

from __future__ import annotations

from typing import Literal

Recipe = Literal[
    "focal", "cross_entropy", "oversampling", "ldam", "crt", "balanced_softmax", "logit_adjustment"
]  # fmt: skip
Restoration = Literal["pix2pix", "median", "keep"]

RECIPE_NAMES: dict[str, str] = {
    "focal": "focal loss, re-balanced as `imbalance` says",
    "cross_entropy": "cross-entropy on the classes as they are",
    "oversampling": "cross-entropy, rare classes drawn more often",
    "ldam": "LDAM: larger margins for rare classes, deferred re-weighting",
    "crt": "decoupling: the body of cross_entropy, a class-balanced classifier",
    "balanced_softmax": "softmax with the class frequencies in the loss",
    "logit_adjustment": "cross_entropy, frequencies subtracted from its logits",
}
"""Every recipe, in one line."""
BODY_OF: dict[str, str] = {"crt": "cross_entropy", "logit_adjustment": "cross_entropy"}
"""Recipes that start from another recipe's model of the same fold, and which."""


def cropping_method(method: str, weights: str | None) -> str:
    """Return the method that `auto` stands for, which depends on whether weights are set; otherwise the method."""
    if method == "auto":
        return "cellpose" if weights else "embedded"
    return method


WAY_NAMES: dict[str, str] = {
    "phase_1": "the rules' phase 1 alone, sensitivity boosting, which the paper never shows",
    "phase_2": "phases 1 and 2, with semantic verification",
    "rules": "all three phases, with the biological filters: the labels that the workflow gives",
    "branch_b": "branch B alone",
    "average": "weighted geometric mean of both branches, the weight fitted",
    "prior_correction": "branch A divided by a fitted power of the class frequencies",
    "count_matching": "branch A weighted until each class is given as often as in training",
    "stacking": "logistic regression on both branches, classes weighted evenly",
}
"""What is done after branch A's main recipe, in one line: the phases of the rules, and the simple ways beside them."""
RESTORATION_NAMES: dict[str, str] = {
    "pix2pix": "noisy cells restored by Pix2Pix",
    "median": "noisy cells filtered by a 3x3 median",
    "keep": "noisy cells left as they are",
}
"""What is done with noisy cells before branch A, in one line."""


def body_model(restoration: str, recipe: str, fold: str) -> list[str]:
    """Return the file of the model that a recipe's fold starts from, in a list; an empty one where there is none."""
    if recipe not in BODY_OF:
        return []
    return [f"results/5_classify/{restoration}/{BODY_OF[recipe]}/fold_{fold}/model.safetensors"]
