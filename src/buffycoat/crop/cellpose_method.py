"""Segmentation by Cellpose-SAM: reduced images through the network in batches, flows to masks on other processes.

The network (GPU) works on the next images while processes (CPU) turn the flows of the last ones into masks.
"""

from __future__ import annotations

import math
import multiprocessing
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from buffycoat.core.errors import InputError
from buffycoat.crop.cellpose_weights import check_weights, load_network
from buffycoat.crop.settings import CropCells
from buffycoat.crop.stain import MIN_NUCLEUS_SHARE, Bools, Floats, choose_primary
from buffycoat.data.images import BACKGROUND, CYTOPLASM, NUCLEUS, Pixels
from buffycoat.nets.device import pick_device

Labels = npt.NDArray[np.int32]
Nuclei = Callable[[list[Pixels]], list[Bools]]
"""Images to maps of what is stained as nuclei are, (H, W) bool each."""
Finish = Callable[[list[Pixels], list[Bools]], list[Bools]]
"""Images and their chosen cells, (H, W) bool each, to the nucleus in each cell, (H, W) bool each."""

STEPS = 200
"""Steps by which each pixel follows the flows; Cellpose's default."""
MAX_FLOW_ERROR = 0.4
"""Masks of a larger mean squared error between predicted and true flows are dropped; Cellpose's default."""
MIN_CELL_PX = 15
"""Smaller masks are dropped, pixels of the reduced image; Cellpose's default."""
FLOW_SCALE = 5.0
"""The network is trained on unit flows times this."""
NEIGHBOURS = ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))
"""In the order in which Cellpose adds them up: where the heat is level, its gradient is but the sum's rounding."""
TILE_PX = 256
"""Side of what the network looks at; larger images are cut into overlapping tiles, smaller ones are padded."""
CELLPOSE_PX = 240
"""Longer side that larger images are reduced to, pixels: the most that is one tile, for Cellpose pads each side by 8.

256 would be four tiles (1.2 times 272 is more than one). It also brings the white cell of a close-up nearer to the 7.5
to 120 pixels of diameter that Cellpose-SAM was trained on (doi 10.1101/2025.04.28.651001). Smaller images are not
enlarged: they fill one tile as they are.
"""
CELLPOSE_TILES = 64
"""Tiles the network takes at once; halved by itself where the GPU's memory runs out; ours."""


def masks_of_flows(flows: Floats) -> Labels:
    """Return labels (H, W) int32, 0 outside cells, of what the network says: (3, H, W) float32.

    The first two channels are the flows along rows and columns, the third the logit of being a cell. No mask is
    dropped for its size upwards: by default those over 40 % of the frame vanish, which cells in close-ups are.
    """
    import fastremap
    from cellpose import dynamics, utils

    masks = dynamics.compute_masks(
        flows[:2], flows[2], niter=STEPS, cellprob_threshold=0.0, flow_threshold=0.0, max_size_fraction=1.0
    )
    if masks.max() > 0:
        bad = 1 + np.flatnonzero(flow_errors(masks, flows[:2]) > MAX_FLOW_ERROR)
        masks = fastremap.renumber(fastremap.mask(masks, bad))[0]
    found = utils.fill_holes_and_remove_small_masks(masks, min_size=MIN_CELL_PX)
    if found is None or found.shape != flows.shape[1:]:
        raise RuntimeError(f"Cellpose made no masks of flows {flows.shape}")
    return np.asarray(found, np.int32)


def flow_errors(labels: npt.NDArray[np.integer], flows: Floats) -> npt.NDArray[np.float64]:
    """Return, per label 1..n, the mean squared difference between the network's flows and the label's own, (n,)."""
    off = ((true_flows(labels) - flows / FLOW_SCALE) ** 2).sum(axis=0)
    sums = np.bincount(labels.ravel(), weights=off.ravel())
    return np.asarray(sums[1:] / np.bincount(labels.ravel())[1:], np.float64)


def true_flows(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Return unit flows towards each cell's centre, (2, H, W) float64, along rows and columns; 0 outside cells.

    `labels` (H, W) are 0 outside and 1..n without a gap. Heat is let in at each cell's centre and diffuses within the
    cell for as many steps as twice the largest cell's extent (height + width + 2); the flows are the heat's gradient.
    Equals cellpose.dynamics.masks_to_flows_gpu on a CPU.
    """
    from cellpose.dynamics import get_centers
    from scipy.ndimage import find_objects

    heat = np.zeros((labels.shape[0] + 2, labels.shape[1] + 2))
    slices = find_objects(labels)
    if slices:
        centres, extents = get_centers(labels, slices)
        for label, (box, centre) in enumerate(zip(slices, centres, strict=True), 1):
            inside = np.pad(labels[box] == label, 1)
            start = np.array([box[0].start, box[1].start])
            warmed = _heat(inside, tuple(int(place) for place in centre - start + 1), 2 * int(extents.max()))
            heat[box[0].start : box[0].stop + 2, box[1].start : box[1].stop + 2][inside] = warmed[inside]
    slope = np.stack([heat[2:, 1:-1] - heat[:-2, 1:-1], heat[1:-1, 2:] - heat[1:-1, :-2]]) * (labels > 0)
    return np.asarray(slope / (1e-60 + (slope**2).sum(axis=0) ** 0.5), np.float64)


def _heat(inside: npt.NDArray[np.bool_], centre: tuple[int, ...], steps: int) -> npt.NDArray[np.float64]:
    """Return the heat in a cell, of the shape of `inside`, which is False along its border."""
    width = inside.shape[1]
    # As one row, so that each neighbour is a shift: twice as fast as shifting rows of a small image one by one.
    heat, start = np.zeros(inside.size), width + 1
    middle, source = heat[start:-start], centre[0] * width + centre[1]
    shifted = [heat[start + r * width + c : inside.size - start + r * width + c] for r, c in NEIGHBOURS]
    within, mean = inside.ravel()[start:-start].astype(np.float64), np.zeros_like(middle)
    for _ in range(steps):
        heat[source] += 1
        np.add(middle, shifted[0], out=mean)
        for neighbour in shifted[1:]:
            mean += neighbour
        mean /= 9
        np.multiply(mean, within, out=middle)
    return heat.reshape(inside.shape)


def _start_worker() -> None:
    import torch

    # Each worker would say once that Cellpose's sparse tensors are not checked twice.
    warnings.filterwarnings("ignore", message="Sparse invariant checks")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def mask_workers(count: int) -> ProcessPoolExecutor:
    """Return a pool of processes for `masks_of_flows`, one thread each; they end when nobody holds the pool."""
    # Not forked: a process that has started CUDA or threads cannot be.
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _start_worker)


@dataclass
class Cellpose:
    """The network, how many tiles it takes at once (fewer once memory has run out), and who does the rest."""

    network: Any
    tiles: int
    threads: Executor
    workers: Executor


def load_model(settings: CropCells, threads: Executor, workers: int) -> Cellpose:
    """Return Cellpose on this job's device, with that many processes; raises InputError where its weights are amiss."""
    path = check_weights(settings)
    network = load_network(path, pick_device())
    return Cellpose(network, CELLPOSE_TILES, threads, mask_workers(workers))


def reduced(image: Pixels, side_px: int) -> Pixels:
    """Return the image with its longer side reduced to `side_px`, by area; a smaller image as it is.

    Enlarging would gain nothing: the network was trained on cells of 7.5 to 120 px, 30 on average, and the white cell
    of a close-up is at the upper end already.
    """
    height, width = image.shape[:2]
    scale = min(1.0, side_px / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def normalised(image: Pixels) -> Floats:
    """Return the image (H, W, 3) float32 with each channel's 1st percentile at 0 and its 99th at 1, as Cellpose does.

    One image at a time: in a batch, Cellpose leaves a channel without contrast at its raw values instead of at 0.
    """
    from cellpose.transforms import normalize_img

    return np.asarray(normalize_img(image), np.float32)


def flows_of(model: Cellpose, images: Floats) -> Floats:
    """Return the network's flows along rows and columns and its logit of being a cell, (N, 3, H, W) float32.

    `images` are normalised and of one size, (N, H, W, 3) float32: one array is batched across images, a list is not.
    Where the GPU's memory runs out, the tiles at once are halved, for good. Raises InputError where one tile is too
    much, or where the weights give something else than numbers.
    """
    import torch
    from cellpose.core import run_net

    while True:
        try:
            answer = run_net(model.network, images, batch_size=model.tiles, bsize=TILE_PX)[0]
            break
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            if model.tiles == 1:
                raise InputError(
                    "the GPU's memory does not hold Cellpose and one tile: end what else runs on it, or hide it from"
                    " this job (CUDA_VISIBLE_DEVICES=) to use the CPU"
                ) from None
            model.tiles //= 2
    flows = np.ascontiguousarray(np.moveaxis(answer, 3, 1), np.float32)
    if flows.shape != (len(images), 3, *images.shape[1:3]) or not np.isfinite(flows).all():
        raise InputError("Cellpose's network answers with something else than flows: are its weights whole?")
    return flows


def tiles_of(height: int, width: int) -> int:
    """Return into how many tiles Cellpose cuts an image: it pads each side by 8 px and more, then overlaps by a tenth.

    So one of 240 px is one tile, and one of 256 px is four.
    """
    from cellpose.transforms import get_pad_yx

    top, bottom, left, right = get_pad_yx(height, width, min_size=(TILE_PX, TILE_PX))
    padded = (height + top + bottom, width + left + right)
    rows, cols = (1 if side <= TILE_PX else math.ceil(1.2 * side / TILE_PX) for side in padded)
    return rows * cols


@contextmanager
def _living_workers() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise InputError(
            "a process that makes masks of flows was killed, as happens when memory runs out: give the step fewer"
            " threads, or divide the images among more jobs (--set-scatter portions=8)"
        ) from None


def start_masks(model: Cellpose, images: list[Pixels], side_px: int = CELLPOSE_PX) -> list[Future[Labels]]:
    """Return, per image and in order, the labels (h, w) int32 of the reduced image: to come, while the network goes on.

    Images of one reduced size go through the network together, as many as make up `model.tiles`.
    """
    prepared = list(model.threads.map(lambda image: normalised(reduced(image, side_px)), images))
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, image in enumerate(prepared):
        by_shape[image.shape].append(place)
    waiting: dict[int, Future[Labels]] = {}
    for (height, width, _), places in by_shape.items():
        start = 0
        while start < len(places):
            batch = places[start : start + max(1, model.tiles // tiles_of(height, width))]
            flows = flows_of(model, np.stack([prepared[place] for place in batch]))
            with _living_workers():
                waiting.update(
                    {k: model.workers.submit(masks_of_flows, flow) for k, flow in zip(batch, flows, strict=True)}
                )
            start += len(batch)
    return [waiting[place] for place in range(len(images))]


def enlarged(cell: Bools, shape: tuple[int, int]) -> Bools:
    """Return a cell's mask at another size, with its outline interpolated.

    Steps of whole reduced pixels would show in what is measured of the outline later.
    """
    size = (shape[1], shape[0])
    return np.asarray(cv2.resize(cell.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5, bool)


def primary_of(labels: Labels, nuclei: Bools, min_nucleus_share: float = MIN_NUCLEUS_SHARE) -> tuple[Bools, int]:
    """Return the white cell (H, W) bool among Cellpose's masks (h, w), and how many of them hold a nucleus.

    A mask is a white cell where `nuclei` (H, W) cover enough of the image within it; red cells have none.
    """
    rows, cols = (
        ((np.arange(full) + 0.5) * (small / full)).astype(int)
        for full, small in zip(nuclei.shape, labels.shape, strict=True)
    )
    per_label = np.where(nuclei, labels[rows[:, None], cols], 0).astype(np.int32)
    label, cells = choose_primary(per_label, min_nucleus_share * nuclei.size)
    if not label:
        return np.zeros(nuclei.shape, bool), cells
    return enlarged(labels == label, (nuclei.shape[0], nuclei.shape[1])), cells


def segment_by_cellpose(
    model: Cellpose, images: list[Pixels], nuclei: Nuclei, finish: Finish | None = None
) -> Iterator[tuple[Pixels, int]]:
    """Return (mask of the primary cell, number of white cells) per image, in order.

    When this returns, the network is done with `images` and free for others; the masks are made meanwhile and waited
    for when the first answer is asked for. Masks are (H, W) uint8 of BACKGROUND, CYTOPLASM, NUCLEUS.
    """
    return _answers(start_masks(model, images), images, nuclei(images), finish)


def _answers(
    waiting: list[Future[Labels]], images: list[Pixels], maps: list[Bools], finish: Finish | None
) -> Iterator[tuple[Pixels, int]]:
    with _living_workers():
        found = [labels.result() for labels in waiting]
    chosen = [primary_of(labels, nuclei) for labels, nuclei in zip(found, maps, strict=True)]
    cells = [cell for cell, _ in chosen]
    for (cell, count), nucleus in zip(chosen, finish(images, cells) if finish else maps, strict=True):
        mask = np.where(cell, np.uint8(CYTOPLASM), np.uint8(BACKGROUND))
        mask[cell & nucleus] = NUCLEUS
        yield mask, count
