"""Step `embed_cells`: one unit-length vector per cell, and one per class name where the encoder has text."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from buffycoat.core.errors import InputError
from buffycoat.core.progress import Progress
from buffycoat.core.settings import Runtime
from buffycoat.core.steps import run
from buffycoat.data.cell_types import name_of
from buffycoat.data.gather_portions import ALL, rows_of_portion
from buffycoat.data.images import CellImages, Pixels, on_white
from buffycoat.data.tables.embed import EMBEDDINGS, PROMPTS
from buffycoat.data.tables.index import CLASSES, class_codes
from buffycoat.data.tables.restore import CELLS
from buffycoat.embed.encoders import Encoder, load_encoder
from buffycoat.embed.settings import EmbedCells
from buffycoat.nets.batches import Prefetched, in_pieces
from buffycoat.nets.device import mixed_precision, pick_device

log = logging.getLogger("buffycoat")
EMBED_BATCH = 64
"""Images per forward pass, halved by itself where the GPU's memory does not suffice; ours."""


@dataclass(frozen=True)
class Embedder:
    """What embedding needs."""

    encoder: Encoder
    """Images to vectors, and how its images are normalised."""
    settings: EmbedCells
    """Size of an image, pixels; background."""
    runtime: Runtime = Runtime()
    batch: int = EMBED_BATCH
    """Images per forward pass."""


def prepare(pixels: Tensor, encoder: Encoder, size_px: int) -> Tensor:
    """Return (n, 3, size_px, size_px) float32, squashed to size and normalised, of (n, H, W, 3) uint8 crops.

    On the device of `pixels`. The aspect ratio is not kept, as SigLIP's training did not keep it.
    """
    images = pixels.permute(0, 3, 1, 2).float() / 255
    if images.shape[-2:] != (size_px, size_px):
        images = functional.interpolate(
            images, (size_px, size_px), mode=encoder.interpolation, antialias=encoder.antialias
        ).clamp(0, 1)  # bicubic overshoots
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (encoder.mean, encoder.std))
    return (images - mean) / std


def unit(vectors: Tensor) -> Tensor:
    """Return the vectors (n, D) as float32, scaled to length one."""
    return functional.normalize(vectors.float(), dim=1)


def crops_of(cells: CellImages, places: range, background: str) -> Pixels:
    """Return the crops (n, H, W, 3) uint8 of some cells; `white` paints what is outside the cell."""
    white = background == "white"
    return np.stack([on_white(cells.crop(p), cells.mask(p)) if white else cells.crop(p) for p in places])


def embed(cells: CellImages, embedder: Embedder) -> np.ndarray:
    """Return (n, D) float32 unit vectors of all cells."""
    device, encoder, settings = pick_device(), embedder.encoder, embedder.settings
    network = encoder.network.to(device)
    progress, started = Progress("embed_cells", len(cells)), time.perf_counter()

    def forward(pixels: Tensor) -> Tensor:
        images = prepare(pixels.to(device, non_blocking=True), encoder, settings.size_px)
        with torch.inference_mode(), mixed_precision(device, embedder.runtime.bf16_on_cpu):
            vectors = unit(network(images.contiguous()))
        # Once more: after one division a length is 1 but for the last digit.
        return unit(vectors).cpu()

    starts = range(0, len(cells), embedder.batch)
    parts = [range(start, min(start + embedder.batch, len(cells))) for start in starts]
    batches = Prefetched(lambda number: crops_of(cells, parts[number], settings.background), range(len(parts)))
    vectors, size = [], embedder.batch
    for pixels in batches:
        made, size = in_pieces(forward, torch.from_numpy(np.ascontiguousarray(pixels)), size, "embed.embed_cells")
        vectors.append(made)
        progress.step(len(pixels))
    seconds = max(time.perf_counter() - started, 1e-9)
    told = (len(cells), settings.size_px, seconds, len(cells) / seconds, size, batches.waited_s)
    log.info("embed_cells: %d images, %d px: %.1f s, %.1f images/s; batch %d, %.1f s waited for crops", *told)
    stacked: np.ndarray = torch.cat(vectors).numpy() if vectors else np.zeros((0, 0), np.float32)
    return stacked


def require_unit(vectors: np.ndarray, names: pd.Series) -> None:
    """Raise InputError that names the first of the vectors (n, D) that is not of length one: a network gone wrong."""
    wrong = ~(np.abs(np.linalg.norm(vectors, axis=1) - 1) < 1e-3)
    if wrong.any():
        raise InputError(
            f"embed_cells: the encoder gave no usable vector for {int(wrong.sum())} of {len(vectors)}, first for"
            f" {names.to_numpy()[wrong][0]!r}: its weights are damaged, or bfloat16 is too coarse for it"
        )


def apply(rows: pd.DataFrame, embedder: Embedder, cells: CellImages) -> pd.DataFrame:
    """Return the embeddings (table EMBEDDINGS, float32 of length one) of the rows of cells, in their order.

    Parameters: cells, the pixels of `rows`. Raises InputError where a vector is not of length one.
    """
    vectors = embed(cells, embedder)
    require_unit(vectors, rows["image_id"])
    column = pd.Series(list(vectors), index=rows.index, dtype=object)
    return pd.DataFrame({"image_id": rows["image_id"], "embedding": column})


def prompts_of(classes: list[str], encoder: Encoder, settings: EmbedCells) -> pd.DataFrame:
    """Return the table of prompts: a row per class code in order, none where the encoder has no text."""
    if encoder.embed_texts is None:
        return pd.DataFrame({"code": [], "prompt": [], "embedding": []}, dtype=object)
    texts = [settings.prompt.replace("<name>", name_of(code)) for code in classes]
    vectors = unit(encoder.embed_texts(texts)).numpy()
    require_unit(vectors, pd.Series(classes, dtype=object))
    return pd.DataFrame({"code": np.array(classes, object), "prompt": texts, "embedding": list(vectors)})


def embed_cells(
    *, cells: Path, classes: Path, embeddings: Path, prompts: Path, portion: str = ALL, settings: EmbedCells,
    runtime: Runtime = Runtime(),
) -> None:  # fmt: skip
    """Embed every cell, and every class name where the encoder has text; write the tables of both.

    With `portion`, of these cells alone.
    """
    rows = rows_of_portion(CELLS.read(cells), portion, EMBED_BATCH)
    encoder = load_encoder(settings)
    # Texts first, on the CPU, before the image side moves to a GPU.
    texts = prompts_of(class_codes(CLASSES.read(classes)), encoder, settings)
    table = apply(rows, Embedder(encoder, settings, runtime, EMBED_BATCH), CellImages(rows, cells))
    PROMPTS.write(texts, prompts)
    EMBEDDINGS.write(table, embeddings)


if __name__ == "__main__":
    run(embed_cells)
