"""From Cellpose's flows to masks, as Cellpose does it, on as many processes as there are cores.

Following the flows is Cellpose's own function. The check that a mask's flows are those of a cell (its flow error) is
written anew, with the same result: on a CPU it takes nine tenths of Cellpose's time, most of it for looking up, pixel
by pixel, neighbours that stand beside each other anyway.
"""

from __future__ import annotations

import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np
import numpy.typing as npt

from buffycoat.crop.stain import Floats

Labels = npt.NDArray[np.int32]

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
