from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from buffycoat.classify.recipes import (
    GAMMA,
    LOGIT_SCALE,
    LOSSES,
    Balance,
    CosineClassifier,
    balanced_softmax,
    cross_entropy,
    focal,
    ldam,
    ldam_margins,
)
from buffycoat.classify.settings import TrainFold


def balance(
    classes: int = 4, weights: list[float] | None = None, counts: list[int] | None = None, gamma: float = GAMMA,
    logit_scale: float = LOGIT_SCALE, **settings: Any,
) -> Balance:  # fmt: skip
    counts = counts or [1000, 100, 10, 1][:classes]
    return Balance(
        torch.tensor(counts, dtype=torch.float32),
        torch.tensor(weights or [1.0] * classes),
        torch.from_numpy(ldam_margins(np.array(counts), 0.5)).float(),
        TrainFold(**settings),
        gamma,
        logit_scale,
    )


def drawn(n: int = 16, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(n, classes), torch.randint(0, classes, (n,))


def slow_focal(row: list[float], label: int, weight: float, gamma: float, kind: str) -> float:
    p = math.exp(row[label]) / sum(math.exp(value) for value in row)
    ce = weight * -math.log(p)
    p_t = p if kind == "textbook" else math.exp(-ce)
    return (1 - p_t) ** gamma * ce


@pytest.mark.parametrize("kind", ["textbook", "weighted"])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_focal_is_its_definition(kind: str, gamma: float) -> None:
    logits, labels = drawn()
    weights = [0.2, 0.8, 1.7, 1.3]
    values = focal(logits, labels, balance(weights=weights, gamma=gamma, focal_p=kind))
    expected = [
        slow_focal(row, label, weights[label], gamma, kind)
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    assert values.tolist() == pytest.approx(expected, rel=1e-5)


def test_focal_without_focusing_or_weights_is_cross_entropy_and_both_p_agree() -> None:
    logits, labels = drawn()
    plain = functional.cross_entropy(logits, labels, reduction="none")
    assert torch.allclose(focal(logits, labels, balance(gamma=0.0)), plain)
    both = [focal(logits, labels, balance(focal_p=kind)) for kind in ("textbook", "weighted")]
    assert torch.allclose(*both)


def test_focal_looks_at_hard_images() -> None:
    logits, labels = torch.tensor([[6.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    easy, hard = focal(logits, labels, balance(2, gamma=2)).tolist()
    plain_easy, plain_hard = focal(logits, labels, balance(2, gamma=0)).tolist()
    assert hard / easy > 100 * plain_hard / plain_easy


def test_cross_entropy_smooths_labels_and_weighs_classes() -> None:
    logits, label = torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([0])
    log_p = functional.log_softmax(logits, dim=1)[0]
    expected = -2.5 * (0.9 * log_p[0] + 0.1 * log_p.mean())
    value = cross_entropy(logits, label, balance(3, [2.5, 1.0, 1.0], label_smoothing=0.1))
    assert value.item() == pytest.approx(expected.item())


def test_ldam_is_its_definition() -> None:
    cosines, labels = drawn()
    cosines = torch.tanh(cosines)
    about = balance(weights=[0.5, 1.0, 2.0, 4.0], logit_scale=20.0)
    expected = []
    for row, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        own = math.exp(20 * (row[label] - about.margins[label].item()))
        others = sum(math.exp(20 * value) for k, value in enumerate(row) if k != label)
        expected.append(-about.weights[label].item() * math.log(own / (own + others)))
    assert ldam(20 * cosines, labels, about).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_balanced_softmax_is_its_definition_and_plain_where_classes_are_equal() -> None:
    logits, labels = drawn()
    counts = [1000, 100, 10, 1]
    expected = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        terms = [n * math.exp(value) for n, value in zip(counts, row, strict=True)]
        expected.append(-math.log(terms[label] / sum(terms)))
    assert balanced_softmax(logits, labels, balance(counts=counts)).tolist() == pytest.approx(expected, rel=1e-5)
    equal = balanced_softmax(logits, labels, balance(counts=[7] * 4))
    assert torch.allclose(equal, functional.cross_entropy(logits, labels, reduction="none"), atol=1e-6)


def test_balanced_softmax_leaves_out_a_class_without_images() -> None:
    logits = torch.tensor([[1.0, 2.0, 9.0]], requires_grad=True)
    loss = balanced_softmax(logits, torch.tensor([0]), balance(counts=[5, 5, 0]))
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert loss.item() == pytest.approx(math.log(1 + math.e)) and logits.grad[0, 2] == 0


@pytest.mark.parametrize("recipe", LOSSES)
def test_every_loss_gives_one_finite_value_per_image_for_certain_mistakes(recipe: str) -> None:
    logits = torch.tensor([[80.0, -80.0], [0.0, 0.0]], requires_grad=True)
    loss = LOSSES[recipe](logits, torch.tensor([1, 0]), balance(2))
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert loss.shape == (2,) and torch.isfinite(loss).all()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_the_cosine_classifier_knows_directions_only() -> None:
    torch.manual_seed(0)
    classifier = CosineClassifier(6, 3, scale=30.0)
    features = torch.randn(4, 6)
    logits = classifier(features)
    expected = 30 * functional.cosine_similarity(features[:, None], classifier.weight[None], dim=2)
    assert torch.allclose(logits, expected, atol=1e-5)
    assert torch.allclose(classifier(7 * features), logits, atol=1e-5) and logits.abs().max() <= 30
