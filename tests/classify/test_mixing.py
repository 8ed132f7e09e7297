from __future__ import annotations

import numpy as np
import pytest
import torch

from buffycoat.classify.augment import draw_numbers
from buffycoat.classify.mixing import boxes, mix
from buffycoat.classify.settings import TrainFold
from buffycoat.core.random import stream_seeds


def drawn(n: int) -> dict[str, torch.Tensor]:
    return draw_numbers(stream_seeds(0, [str(k) for k in range(n)]), 1, 0, np.zeros(n, np.int64))


def levels(n: int) -> torch.Tensor:
    return torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1).repeat(1, 3, 16, 16)


def test_without_mixing_images_keep_their_labels() -> None:
    labels = torch.arange(6)
    images, others, share = mix(levels(6), labels, drawn(6), TrainFold())
    assert torch.equal(images, levels(6)) and torch.equal(others, labels) and torch.equal(share, torch.ones(6))


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_the_share_is_what_is_left_of_the_image(kind: str) -> None:
    n = 200
    images, others, share = mix(levels(n), torch.arange(n), drawn(n), TrainFold(**{kind: 1.0}))
    assert torch.equal(others, torch.arange(n).roll(1))
    expected = share * torch.arange(n) + (1 - share) * others
    assert torch.allclose(images.mean(dim=(1, 2, 3)), expected, atol=1e-3)
    assert 0.4 < share.mean() < (0.6 if kind == "mixup" else 0.8)
    whole = (images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3)) == 0).float().mean()
    assert whole > 0.99 if kind == "mixup" else whole < 0.1


def test_small_alpha_mixes_little_and_both_kinds_share_the_images() -> None:
    n = 400
    share = mix(levels(n), torch.arange(n), drawn(n), TrainFold(mixup=0.05))[2]
    assert ((share < 0.05) | (share > 0.95)).float().mean() > 0.7
    images = mix(levels(n), torch.arange(n), drawn(n), TrainFold(mixup=1.0, cutmix=1.0))[0]
    pasted = images.amax(dim=(1, 2, 3)) != images.amin(dim=(1, 2, 3))
    assert 0.35 < pasted.float().mean() < 0.6


def test_boxes_are_squares_of_their_area_where_the_border_allows() -> None:
    numbers = {"down": torch.tensor([0.5, 0.0]), "right": torch.tensor([0.5, 0.0])}
    masks = boxes(torch.tensor([0.25, 0.25]), numbers, 32)
    assert masks[0].float().mean() == 0.25
    assert masks[1].float().mean() == pytest.approx(0.25 / 4)
