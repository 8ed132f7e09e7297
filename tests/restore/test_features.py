from __future__ import annotations

import pytest
import torch

from buffycoat.restore.gan import FeatureDistance, Gan
from buffycoat.restore.settings import TrainGan


@pytest.fixture(scope="module")
def distance() -> FeatureDistance:
    return FeatureDistance()


def images() -> torch.Tensor:
    coarse = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")


def test_equal_images_are_at_distance_nothing_and_noisier_ones_farther(distance: FeatureDistance) -> None:
    clean = images()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    found = [float(distance((clean + level * noise).clamp(-1, 1), clean)) for level in (0.0, 0.05, 0.2, 0.6)]
    assert found[0] == 0 and found == sorted(found) and found[-1] > 0.2


def test_the_network_is_frozen_and_only_the_restored_image_is_pulled(distance: FeatureDistance) -> None:
    clean = images().requires_grad_()
    restored = (images() * 0.8).requires_grad_()
    distance(restored, clean).backward()
    assert restored.grad is not None and restored.grad.abs().sum() > 0 and clean.grad is None
    assert not any(parameter.requires_grad for parameter in distance.parameters())


def test_the_loss_moves_the_generator_only_where_it_is_on() -> None:
    tiny = TrainGan(depth=3, widths=(4, 4), steps=10, batch=2, lambda_l1=1e-6)
    clean = images()
    losses, moved = {}, {}
    for weight in (0.0, 30.0):
        gan = Gan(tiny.model_copy(update={"lambda_features": weight}), 1, torch.device("cpu"))
        losses[weight] = gan.step((clean * 0.7).clamp(-1, 1), clean, 5)["G_features"]
        moved[weight] = torch.cat([parameter.detach().flatten() for parameter in gan.generator.parameters()])
    assert losses[0.0] == 0 and losses[30.0] > 0
    assert not torch.equal(moved[0.0], moved[30.0])
