"""How differently a network that knows images sees two of them: the feature loss of restoration.

A mean over pixels prefers smooth images; what tells classes apart (chromatin, granules) is small in it. Features of an
ImageNet network weigh it (perceptual loss, Johnson et al. 2016, doi 10.1007/978-3-319-46475-6_43).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from buffycoat.efficientnet import MEAN, STD, efficientnet_lite0

LEVELS = (1, 2, 3)
"""Feature maps that are compared: at a quarter, an eighth and a sixteenth of the image's side."""


class FeatureDistance(nn.Module):
    """Distance of images (n, 3, H, W) in [-1, 1] in the frozen features of EfficientNet-Lite0 (ImageNet weights)."""

    def __init__(self) -> None:
        """Load the embedded weights."""
        super().__init__()
        import timm

        self.network = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=LEVELS)
        whole = efficientnet_lite0(0).state_dict()
        own = self.network.state_dict()
        self.network.load_state_dict({name: whole[name] for name in own}, strict=True)
        self.requires_grad_(False).eval()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, restored: Tensor, clean: Tensor) -> Tensor:
        """Return the mean over levels of mean |difference| / mean |feature of the clean one|, unitless, 0 if equal."""
        with torch.no_grad():
            wanted = self.network(self._normalised(clean))
        found = self.network(self._normalised(restored))
        parts = [
            (a.float() - b.float()).abs().mean() / b.float().abs().mean().clamp_min(1e-6)
            for a, b in zip(found, wanted, strict=True)
        ]
        return torch.stack(parts).mean()

    def _normalised(self, images: Tensor) -> Tensor:
        return ((images + 1) / 2 - self.mean) / self.std  # type: ignore[operator]
