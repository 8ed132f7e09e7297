"""Step `embed_cells`: one unit-length vector per cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from buffycoat.device import mixed_precision, pick_device
from buffycoat.embed.encoders import Encoder, load_encoder
from buffycoat.embed.settings import EmbedCells
from buffycoat.images import CellImages, Pixels, on_white
from buffycoat.progress import Progress
from buffycoat.steps import run
from buffycoat.tables.cells import CELLS
from buffycoat.tables.embeddings import EMBEDDINGS


def prepare(pixels: Pixels, encoder: Encoder, size_px: int) -> Tensor:
    """Return (n, 3, size_px, size_px) float32, squashed to size and normalised, of (n, H, W, 3) uint8 crops."""
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 255
    if images.shape[-2:] != (size_px, size_px):
        images = functional.interpolate(images, (size_px, size_px), mode="bilinear", antialias=encoder.antialias)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (encoder.mean, encoder.std))
    return (images - mean) / std


def unit(vectors: Tensor) -> Tensor:
    """Return the vectors (n, D) scaled to length one."""
    return functional.normalize(vectors.float(), dim=1)


def turned(images: Tensor, view: int) -> Tensor:
    """Return images under element `view` of D4: quarter turns, from 4 on mirrored first."""
    return torch.rot90(images.flip(3) if view >= 4 else images, view % 4, (2, 3))


def embed(cells: CellImages, encoder: Encoder, settings: EmbedCells) -> np.ndarray:
    """Return (n, D) float32 unit vectors of all cells, averaged over views."""
    device = pick_device()
    network = encoder.network.to(device)
    progress = Progress("embed_cells", len(cells))
    vectors = []
    for start in range(0, len(cells), settings.batch):
        places = range(start, min(start + settings.batch, len(cells)))
        for place in places:
            cells.check(place)
        white = settings.background == "white"
        crops = [on_white(cells.crop(p), cells.mask(p)) if white else cells.crop(p) for p in places]
        images = prepare(np.stack(crops), encoder, settings.size_px).to(device)
        with torch.inference_mode(), mixed_precision(device):
            views = [unit(network(turned(images, view))) for view in range(settings.views)]
        vectors.append(unit(torch.stack(views).mean(dim=0)).cpu())
        progress.step(len(places))
    stacked: np.ndarray = torch.cat(vectors).numpy()
    return stacked


def embed_cells(*, cells: Path, embeddings: Path, settings: EmbedCells) -> None:
    """Embed every cell; write the table of embeddings."""
    encoder = load_encoder(settings)
    frame = CELLS.read(cells)
    vectors = embed(CellImages(frame, cells), encoder, settings)
    EMBEDDINGS.write(pd.DataFrame({"image_id": frame["image_id"], "embedding": list(vectors)}), embeddings)


if __name__ == "__main__":
    run(embed_cells)
