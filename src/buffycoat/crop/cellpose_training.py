"""Fine-tuning of Cellpose-SAM on images with masks, by Cellpose's own training."""

from __future__ import annotations

import logging
import tempfile
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from buffycoat.core.errors import InputError
from buffycoat.core.random import stream
from buffycoat.crop.cellpose_method import TILE_PX, Cellpose, Labels, reduced, segment_by_cellpose, true_flows
from buffycoat.crop.cellpose_weights import build_network, load_network
from buffycoat.crop.methods import Segmenter
from buffycoat.crop.settings import CropCells
from buffycoat.crop.stain import Bools, Floats, nucleus_map
from buffycoat.data.images import Pixels
from buffycoat.nets.training import seed_torch


def with_flows(labels: Labels, side_px: int) -> Floats:
    """Return what a network is to learn of one image, reduced as images are: (4, h, w) float32.

    Channels: cells numbered 1..n without a gap, 1 within cells, flows along rows and columns. `labels` (H, W) are 0
    outside cells; their numbers may have gaps.
    """
    height, width = reduced(np.zeros((*labels.shape, 3), np.uint8), side_px).shape[:2]
    rows, cols = (
        ((np.arange(small) + 0.5) * (full / small)).astype(int)
        for full, small in zip(labels.shape, (height, width), strict=True)
    )
    small_labels = labels[rows[:, None], cols]
    # 0 is always among the values, so that it stays the background where cells fill the image.
    numbered = np.searchsorted(np.unique(np.append(small_labels, 0)), small_labels).astype(np.int32)
    return np.concatenate([numbered[None], numbered[None] > 0, true_flows(numbered)]).astype(np.float32)


def fine_tune_cellpose(
    images: list[Pixels],
    labels: list[Labels],
    weights: Path,
    *,
    side_px: int,
    epochs: int,
    batch: int,
    learning_rate: float,
    weight_decay: float,
    device: torch.device,
    seed: int,
) -> tuple[dict[str, torch.Tensor], npt.NDArray[np.float64]]:
    """Return the network's tensors (float32, CPU) after training, and the mean loss of each epoch, (epochs,).

    Images (H, W, 3) and labels (H, W), 0 outside cells and one number per cell, are reduced to `side_px` as for
    segmentation and then turned, scaled and mirrored at random. The first epoch has a learning rate of 0, which rises
    to `learning_rate` at the tenth (Cellpose's schedule), so fewer than ten epochs change little. The same seed gives
    the same tensors on a CPU. Training is in float32. Raises InputError where there is nothing to learn from.
    """
    _require_cells(images, labels)
    from cellpose.train import train_seg

    # Its own seeds are the numbers of the epochs; the order of the images is what ours can change of its draws.
    order = [int(place) for place in stream(seed, "fine_tune_cellpose").permutation(len(images))]
    shown = [reduced(images[place], side_px) for place in order]
    wanted = [with_flows(labels[place], side_px) for place in order]
    network = load_network(weights, device, mixed=False)
    # One line every ten epochs.
    logging.getLogger("cellpose.train").setLevel(logging.INFO)
    seed_torch(seed, "fine_tune_cellpose")
    drawn = np.random.get_state()
    try:
        # It saves where it is told to, or else into the working directory; only the network in memory is wanted.
        with tempfile.TemporaryDirectory() as folder:
            losses = train_seg(
                network, train_data=shown, train_labels=wanted, channel_axis=-1, normalize={"normalize": True},
                batch_size=batch, learning_rate=learning_rate, weight_decay=weight_decay, n_epochs=epochs,
                min_train_masks=0, bsize=TILE_PX, save_path=folder, save_every=epochs + 1, model_name="fine_tuned",
            )[1]  # fmt: skip
    except torch.cuda.OutOfMemoryError:
        raise InputError(f"the GPU's memory does not hold the training of Cellpose by {batch} images: fewer") from None
    finally:
        np.random.set_state(drawn)
    if not np.isfinite(losses).all():
        raise InputError("the training of Cellpose diverged: lower its learning rate")
    return {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}, np.asarray(losses)


def judged_segmenter(
    state: dict[str, torch.Tensor], device: torch.device, pool: Executor, settings: CropCells
) -> Segmenter:
    """Return the method `cellpose` with tensors that are not in a file yet; nuclei are told by stain."""
    network = build_network()
    network.load_state_dict(state, strict=True)
    model = Cellpose(network.to(device).eval(), settings.cellpose_tiles, pool, pool)

    def nuclei(images: list[Pixels]) -> list[Bools]:
        return [nucleus_map(image) for image in images]

    return lambda images: segment_by_cellpose(model, images, settings, nuclei)


def _require_cells(images: list[Pixels], labels: list[Labels]) -> None:
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images and {len(labels)} label images")
    for place, (image, cells) in enumerate(zip(images, labels, strict=True)):
        if image.shape[:2] != cells.shape:
            raise InputError(f"training image {place}: {image.shape[:2]} pixels, its mask {cells.shape}")
    if not any(cells.any() for cells in labels):
        raise InputError("no training mask holds a cell: Cellpose has nothing to learn from")
