from __future__ import annotations

import numpy as np
import pytest
import torch

from buffycoat.classify.augment import DAMAGES, Augmentation, damage, draw_numbers
from buffycoat.data.degradations import DEGRADATIONS
from buffycoat.data.random import stream, stream_seeds


def drawn(n: int) -> dict[str, torch.Tensor]:
    return draw_numbers(stream_seeds(0, [str(k) for k in range(n)]), 1, 0, np.zeros(n, np.int64))


def pattern(n: int, side: int = 64) -> torch.Tensor:
    rows, cols = np.mgrid[0:side, 0:side] / side
    edges = 0.2 * np.sign(np.sin(12 * rows) * np.cos(17 * cols))
    image = np.stack([0.5 + 0.2 * np.sin(9 * rows), 0.5 + 0.2 * np.cos(7 * cols), 0.4 + 0.2 * rows]) + edges
    return torch.from_numpy(image.astype(np.float32))[None].repeat(n, 1, 1, 1)


@pytest.mark.parametrize("kind", DAMAGES)
def test_severity_zero_changes_nothing(kind: str) -> None:
    unchanged = DAMAGES[kind](pattern(3), torch.zeros(3), drawn(3))
    assert torch.allclose(unchanged, pattern(3), atol=1e-5)


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("severity", [1.0, 3.0])
def test_damage_is_as_strong_as_the_simulations(kind: str, severity: float) -> None:
    """Root mean square change and mean, over 64 draws of each: the two implementations agree in distribution."""
    n, clean = 64, pattern(64)
    ours = DAMAGES[kind](clean, torch.full((n,), severity), drawn(n)).clamp(0, 1)
    pixels = (clean[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    theirs = [DEGRADATIONS[kind](pixels, severity, stream(1, kind, k)) / 255 for k in range(n)]
    rms = ((ours - clean) ** 2).mean(dim=(1, 2, 3)).sqrt().mean().item()
    expected = np.mean([np.sqrt(((image - pixels / 255) ** 2).mean()) for image in theirs])
    assert rms == pytest.approx(expected, rel=0.12)
    assert ours.mean().item() == pytest.approx(np.mean(theirs), abs=0.02)


def test_a_share_of_the_images_is_damaged_and_kinds_are_drawn_alike() -> None:
    n = 600
    settings = Augmentation(degraded=0.25, degradations=("salt_and_pepper", "illumination"))
    clean = pattern(1, 16).repeat(n, 1, 1, 1)
    result = damage(clean.clone(), drawn(n), settings)
    changed = (result - clean).abs().amax(dim=(1, 2, 3)) > 0
    salted = ((result == 0) & (clean > 0)).any(dim=1).flatten(1).any(dim=1)
    assert 0.19 < changed.float().mean() < 0.3
    assert 0.3 < salted.sum() / changed.sum() < 0.6
    assert result.min() >= 0 and result.max() <= 1


def test_severity_stays_below_the_worst() -> None:
    def most(worst: float) -> float:
        settings = Augmentation(degraded=1.0, degradations=("salt_and_pepper",), worst_severity=worst)
        clean = torch.full((40, 3, 32, 32), 0.5)
        return (damage(clean.clone(), drawn(40), settings) != clean).float().mean(dim=(1, 2, 3)).max().item()

    assert most(1.0) < 0.06 < most(4.0) < 0.2
