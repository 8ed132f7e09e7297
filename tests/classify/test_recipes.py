from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from buffycoat.classify.recipes import (
    EFFECTIVE_BETA,
    HEAD_EPOCHS,
    LOGIT_SCALE,
    LOSSES,
    CosineClassifier,
    adjusted_biases,
    both_act,
    class_weights,
    draw_factors,
    effective_number_weights,
    epochs_of,
    linear_classifier,
    rarity,
    weights_of,
    with_classifier,
)
from buffycoat.classify.settings import TrainFold
from buffycoat.core.errors import InputError
from buffycoat.data.methods import BODY_OF, RECIPE_NAMES

COUNTS = np.array([400, 40, 4])


def shape(recipe: str, **settings: Any) -> tuple[str, bool]:
    """Return what the recipe draws by, and whether its first epoch weights the loss."""
    chosen = TrainFold(**settings)
    factors = draw_factors(recipe, COUNTS, chosen)
    kind = next(kind for kind in ("none", "log", "sqrt", "balanced") if np.allclose(factors, rarity(COUNTS, kind)))
    return kind, bool(np.ptp(weights_of(recipe, COUNTS, 0, chosen)) > 0)


@pytest.mark.parametrize(
    ("imbalance", "expected"),
    [("none", ("none", False)), ("sampler", ("log", False)), ("loss", ("none", True)), ("both", ("log", True))],
)
def test_one_knob_says_where_focal_re_balances(imbalance: Any, expected: tuple[str, bool]) -> None:
    assert shape("focal", imbalance=imbalance, rebalance="log") == expected
    assert both_act("focal", TrainFold(imbalance=imbalance)) == (imbalance == "both")


def test_the_other_recipes_are_what_their_names_say_whatever_the_knob() -> None:
    for imbalance in ("none", "both"):
        assert shape("cross_entropy", imbalance=imbalance) == ("none", False)
        assert shape("oversampling", imbalance=imbalance, rebalance="sqrt") == ("sqrt", False)
        assert shape("crt", imbalance=imbalance) == ("balanced", False)
        assert shape("balanced_softmax", imbalance=imbalance) == ("none", False)
        assert shape("ldam", imbalance=imbalance) == ("none", False)
        assert not both_act("oversampling", TrainFold(imbalance="both"))


def test_focal_with_both_is_the_papers() -> None:
    settings = TrainFold(imbalance="both", rebalance="log")
    assert np.allclose(weights_of("focal", COUNTS, 0, settings), class_weights(COUNTS, "log"))


def test_ldam_defers_its_weights() -> None:
    settings = TrainFold(epochs=10)
    assert weights_of("ldam", COUNTS, 7, settings).tolist() == [1, 1, 1]
    late = weights_of("ldam", COUNTS, 8, settings)
    assert np.allclose(late, effective_number_weights(COUNTS, EFFECTIVE_BETA)) and late[2] > late[0]


def test_crt_trains_for_as_long_as_its_head_needs() -> None:
    settings = TrainFold(epochs=20)
    assert [epochs_of(recipe, settings) for recipe in ("crt", "focal")] == [HEAD_EPOCHS, 20]


def test_every_recipe_that_trains_has_a_loss_and_every_body_is_a_recipe() -> None:
    assert set(LOSSES) == set(RECIPE_NAMES) - {"logit_adjustment"}
    assert set(BODY_OF) | set(BODY_OF.values()) <= set(RECIPE_NAMES)


class Small(nn.Module):
    """A network with a classifier where timm has one."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(5, 4), head

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))  # type: ignore[no-any-return]


def test_ldam_alone_gets_a_cosine_classifier() -> None:
    network = with_classifier(Small(nn.Linear(4, 3)), "ldam", 3)
    assert isinstance(network.head, CosineClassifier) and network.head.scale == LOGIT_SCALE
    assert network(torch.randn(2, 5)).shape == (2, 3)
    assert isinstance(with_classifier(Small(nn.Linear(4, 3)), "focal", 3).head, nn.Linear)


def test_a_classifier_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match="Sequential, not one linear layer"):
        linear_classifier(Small(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))))


def test_logit_adjustment_divides_the_odds_by_the_frequencies() -> None:
    logits = np.array([2.0, 1.0, 0.0])
    share = COUNTS / COUNTS.sum()
    moved = adjusted_biases(logits, np.log(share), 1.0)
    odds = [math.exp(a) / n for a, n in zip(logits, share, strict=True)]
    expected = np.array(odds) / sum(odds)
    assert np.exp(moved) / np.exp(moved).sum() == pytest.approx(expected)
    assert adjusted_biases(logits, np.log(share), 0.0).tolist() == logits.tolist()
