"""The embedded encoder: what EfficientNet-Lite0 sees on its way, as mean and spread of its feature maps.

Its last layer was trained to name things in photographs; the textures and shapes before it tell cells apart better
(docs/encoders.md has the figures).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from buffycoat.efficientnet import efficientnet_lite0

FIRST_STAGE = 2
"""Stages before it see edges and colours alone; from here on: 40, 80, 112, 192, 320 channels."""


class StageStatistics(nn.Module):
    """Mean and standard deviation of each channel over the image, stage by stage: (n, 3, S, S) to (n, 1488)."""

    def __init__(self) -> None:
        """Take the body of EfficientNet-Lite0; what comes behind its last stage goes."""
        super().__init__()
        body = efficientnet_lite0(0)
        self.stem = nn.Sequential(body.conv_stem, body.bn1)  # type: ignore[arg-type]
        self.stages: nn.Sequential = body.blocks  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        """Return the statistics, each stage's means and deviations of length one, so that none outweighs another."""
        maps, parts = self.stem(images), []
        for number, stage in enumerate(self.stages):
            maps = stage(maps)
            if number >= FIRST_STAGE:
                pixels = maps.flatten(2)
                parts += [pixels.mean(dim=2), pixels.std(dim=2, unbiased=False)]
        return torch.cat([functional.normalize(part, dim=1) for part in parts], dim=1)
