"""A network that knows the inks of drawing.py: its maps are exact, so that everything around it can be tested."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from buffycoat.nets.pretrained import MEAN, STD


class InkNetwork(nn.Module):
    """Tells cytoplasm (lilac), nucleus (purple) and core (the nucleus) of drawn cells by their colour."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        self.views: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        view = x * torch.tensor(STD).view(1, 3, 1, 1) + torch.tensor(MEAN).view(1, 3, 1, 1)
        self.views += list(view)
        red, green, blue = view.unbind(dim=1)
        # In canonical light red cells have as much blue as green; white cells have more blue.
        cell = (blue - green > 0.06).float()
        nucleus = ((blue - green > 0.06) & (green < 0.35)).float()
        return (torch.stack([cell, nucleus, nucleus], dim=1) - 0.5) * 20
