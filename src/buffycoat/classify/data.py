"""Crops as batches of tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from buffycoat.images import CellImages, Pixels, on_white
from buffycoat.tables.cells import CELLS


class Crops:
    """The crops of a table of cells, found by position or by image_id."""

    def __init__(self, cells: Path, background: str, size_px: int, device: torch.device) -> None:
        """Map the shards; nothing is read yet."""
        frame = CELLS.read(cells)
        self.images = CellImages(frame, cells)
        self.places = {image_id: place for place, image_id in enumerate(self.images.ids)}
        self.background, self.size_px, self.device = background, size_px, device

    def positions(self, image_ids: pd.Series) -> list[int]:
        """Return the position of each image."""
        return [self.places[str(image_id)] for image_id in image_ids]

    def pixels(self, position: int) -> Pixels:
        """Return one crop, on white where that is the setting."""
        crop = self.images.crop(position)
        return on_white(crop, self.images.mask(position)) if self.background == "white" else crop

    def batch(self, positions: list[int]) -> Tensor:
        """Return (n, 3, size_px, size_px) float32 in 0..1 on the device."""
        stacked = np.stack([self.pixels(position) for position in positions])
        tensor = torch.from_numpy(stacked).to(self.device).permute(0, 3, 1, 2).float() / 255
        if tensor.shape[-1] != self.size_px:
            tensor = functional.interpolate(tensor, size=(self.size_px, self.size_px), mode="bilinear", antialias=True)
        return tensor.contiguous(memory_format=torch.channels_last)
