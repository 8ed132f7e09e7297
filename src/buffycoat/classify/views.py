"""The eight symmetries of the square (D4), all distinct."""

from __future__ import annotations

import torch
from torch import Tensor


def view_of(images: Tensor, view: int) -> Tensor:
    """Return images (n, C, S, S) under element `view` of D4, 0..7: quarter turns, from 4 on mirrored first."""
    if not 0 <= view < 8:
        raise ValueError(f"view {view} is not an element of D4: 0..7")
    mirrored = images.flip(3) if view >= 4 else images
    return torch.rot90(mirrored, view % 4, (2, 3))
