"""Segmentation by Cellpose-SAM (doi 10.1101/2025.04.28.651001) from a local, hash-checked weights file.

Cellpose's own downloader is never used: it switches off the checking of TLS certificates and verifies no hash.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from buffycoat.crop.settings import CropCells
from buffycoat.crop.stain import choose_primary, nuclear_stain, nucleus_map
from buffycoat.device import pick_device
from buffycoat.errors import InputError
from buffycoat.files import sha256_of
from buffycoat.images import BACKGROUND, CYTOPLASM, NUCLEUS, Pixels

Labels = npt.NDArray[np.int32]


def check_weights(settings: CropCells) -> Path:
    """Return the weights file; raises InputError where it is not named, absent, or another file than expected."""
    advice = (
        "get the file 'cpsam' of Cellpose-SAM (huggingface.co/mouseland/cellpose-sam; its training data is CC BY-NC)"
        " and name it in crop.crop_cells.weights, or set crop.crop_cells.method: stain"
    )
    if settings.weights is None:
        raise InputError(f"crop.crop_cells.weights: not set, but the method is cellpose; {advice}")
    path = Path(settings.weights)
    if not path.is_file():
        raise InputError(f"crop.crop_cells.weights: {path}: no such file; {advice}")
    if settings.weights_sha256 and sha256_of(path) != settings.weights_sha256:
        raise InputError(f"{path}: its SHA-256 is not crop.crop_cells.weights_sha256; the file is damaged or another")
    return path


def load_model(settings: CropCells) -> Any:
    """Return a Cellpose model on this job's device."""
    path = check_weights(settings)
    from cellpose.models import CellposeModel

    device = pick_device()
    return CellposeModel(pretrained_model=str(path), device=device, use_bfloat16=device.type == "cuda")


def segment_batch(model: Any, images: npt.NDArray[np.uint8], tiles: int) -> list[Labels]:
    """Return a label image (H, W) per image of a batch (N, H, W, 3); where memory runs out, halve the tiles at once.

    One array is batched across images; a list is not. `max_size_fraction=1`: by default, masks over 40 % of the frame
    vanish, which cells in close-ups are.
    """
    import torch

    while True:
        try:
            masks = model.eval(images, batch_size=tiles, channel_axis=-1, z_axis=None, max_size_fraction=1.0)[0]
            break
        except torch.cuda.OutOfMemoryError:
            if tiles == 1:
                raise
            tiles //= 2
            torch.cuda.empty_cache()
    if masks is None or len(masks) != len(images):
        raise RuntimeError("Cellpose returned no masks, as it does when memory runs out; lower crop_cells.batch_images")
    return [np.asarray(mask, np.int32) for mask in masks]


def primary_of(image: Pixels, labels: Labels, min_nucleus_share: float, centrality: float) -> tuple[Pixels, int]:
    """Return mask (H, W) of the white cell among Cellpose's masks, and how many of them hold a nucleus.

    A mask is a white cell where nuclear stain covers enough of it; red cells have none.
    """
    stain = nuclear_stain(image)
    nuclei = nucleus_map(image)
    per_label = np.where(nuclei, labels, 0).astype(np.int32)
    label, cells = choose_primary(per_label, min_nucleus_share * stain.size, centrality)
    mask = np.full(labels.shape, BACKGROUND, np.uint8)
    if label:
        mask[labels == label] = CYTOPLASM
        mask[(labels == label) & nuclei] = NUCLEUS
    return mask, cells


def segment_by_cellpose(model: Any, images: list[Pixels], settings: CropCells) -> list[tuple[Pixels, int]]:
    """Return (mask of the primary cell, number of white cells) per image, in order; images of one size go together."""
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, image in enumerate(images):
        by_shape[image.shape].append(place)
    answers: dict[int, tuple[Pixels, int]] = {}
    for (height, width, _), places in by_shape.items():
        scale = min(1.0, settings.cellpose_px / max(height, width))
        size = (round(width * scale), round(height * scale))
        small = [cv2.resize(images[place], size, interpolation=cv2.INTER_AREA) for place in places]
        batch = np.stack(small).astype(np.uint8, copy=False)
        for place, labels in zip(places, segment_batch(model, batch, 64), strict=True):
            full = cv2.resize(labels.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST)
            found = np.rint(full).astype(np.int32)
            answers[place] = primary_of(images[place], found, settings.min_nucleus_share, settings.centrality)
    return [answers[place] for place in range(len(images))]
