from __future__ import annotations

import pytest
import timm
import torch

from buffycoat.embed.encoders import StageStatistics
from buffycoat.nets.pretrained import efficientnet_lite0


@pytest.fixture(scope="module")
def network() -> StageStatistics:
    return StageStatistics().eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_they_are_the_statistics_of_the_published_networks_stages(
    network: StageStatistics, images: torch.Tensor
) -> None:
    # timm's own way to a network's feature maps, with the same weights; it gives the last stage of each resolution.
    other = timm.create_model("tf_efficientnet_lite0", features_only=True)
    other.load_state_dict(efficientnet_lite0(0).state_dict(), strict=False)
    with torch.inference_mode():
        found, maps = network(images), other.eval()(images)
    assert found.shape == (3, 2 * (40 + 80 + 112 + 192 + 320))
    for channels, start in ((40, 0), (112, 2 * (40 + 80)), (320, 2 * (40 + 80 + 112 + 192))):
        (own,) = (one for one in maps if one.shape[1] == channels)
        mean, spread = own.mean(dim=(2, 3)), own.std(dim=(2, 3), unbiased=False)
        for part, place in ((mean, start), (spread, start + channels)):
            expected = part / part.norm(dim=1, keepdim=True)
            assert torch.allclose(found[:, place : place + channels], expected, atol=1e-5)


def test_each_part_has_length_one_and_a_picture_of_one_colour_is_finite(network: StageStatistics) -> None:
    with torch.inference_mode():
        found = network(torch.zeros(1, 3, 64, 64))
    assert torch.isfinite(found).all()
    parts = found.split([40, 40, 80, 80, 112, 112, 192, 192, 320, 320], dim=1)
    assert all(part.norm() == pytest.approx(1, abs=1e-4) for part in parts)


def test_an_image_is_judged_alone(network: StageStatistics, images: torch.Tensor) -> None:
    with torch.inference_mode():
        assert torch.allclose(network(images)[1:2], network(images[1:2]), atol=1e-5)
