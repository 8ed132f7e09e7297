from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from buffycoat.embed.settings import TrainHead
from buffycoat.embed.train_head import Head, focal, head_loss, supervised_contrast

SMALL = TrainHead(hidden=(16,))


def unit(vectors: torch.Tensor) -> torch.Tensor:
    return functional.normalize(vectors, dim=1)


def slow_contrast(z: torch.Tensor, labels: torch.Tensor, temperature: float) -> float:
    losses = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        positives = [j for j in others if labels[j] == labels[i]]
        if not positives:
            continue
        below = sum(math.exp(float(z[i] @ z[a]) / temperature) for a in others)
        losses.append(-sum(float(z[i] @ z[p]) / temperature - math.log(below) for p in positives) / len(positives))
    return sum(losses) / len(losses)


def test_the_contrastive_loss_is_its_definition() -> None:
    torch.manual_seed(0)
    z = unit(torch.randn(12, 5))
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 0, 1, 1, 0, 1, 3])
    assert supervised_contrast(z, labels, 0.5).item() == pytest.approx(slow_contrast(z, labels, 0.5), rel=1e-5)


def test_a_batch_without_positives_costs_nothing_but_keeps_its_gradient() -> None:
    z = unit(torch.randn(3, 4)).requires_grad_()
    loss = supervised_contrast(z, torch.tensor([0, 1, 2]), 0.07)
    assert loss.item() == 0
    loss.backward()  # type: ignore[no-untyped-call]


def test_tight_classes_cost_less_than_mixed_ones() -> None:
    tight = unit(torch.tensor([[1.0, 0.0], [1.0, 0.05], [0.0, 1.0], [0.05, 1.0]]))
    labels = torch.tensor([0, 0, 1, 1])
    assert supervised_contrast(tight, labels, 0.07) < supervised_contrast(tight, torch.tensor([0, 1, 0, 1]), 0.07)


def test_focal_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0]])
    assert focal(logits, torch.tensor([0]), 2.0).item() == pytest.approx(-(0.25**2) * math.log(0.75))


def test_the_head_mixes_both_losses() -> None:
    torch.manual_seed(0)
    head = Head(6, 3, SMALL).eval()
    z, logits = head(torch.randn(8, 6))
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    assert torch.allclose(z.norm(dim=1), torch.ones(8))
    expected = 0.3 * supervised_contrast(z, labels, 0.07) + 0.7 * focal(logits, labels, 2.0)
    assert torch.allclose(head_loss(z, logits, labels), expected)
