"""How the primary white cell is found: one entry per method, each a function from images to masks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from buffycoat.crop.settings import CropCells
from buffycoat.crop.stain import segment_by_stain
from buffycoat.data.images import Pixels

log = logging.getLogger("buffycoat")
Segmenter = Callable[[list[Pixels]], Iterable[tuple[Pixels, int]]]
"""Images to (mask of the primary cell, number of white cells), in order; answers may still be in the making."""


class Means(NamedTuple):
    """What a method works with: threads, the number of them, and the segmenter that the user trained, if any."""

    pool: ThreadPoolExecutor
    threads: int
    trained: Path | None


def _stain(settings: CropCells, means: Means) -> Segmenter:
    return lambda images: list(means.pool.map(segment_by_stain, images))


def _embedded(settings: CropCells, means: Means) -> Segmenter:
    import torch

    from buffycoat.crop.embedded_method import segment_by_network
    from buffycoat.crop.segmenter import load_network
    from buffycoat.nets.device import pick_device

    device = pick_device()
    network = load_network(means.trained).to(device)
    segment = partial(segment_by_network, network)
    if device.type == "cuda":
        return segment

    def alone(image: Pixels) -> tuple[Pixels, int]:
        torch.set_num_threads(1)
        return segment([image])[0]

    # On a CPU every image goes through the network alone, on one thread: its mask does not depend on its neighbours
    # in a batch or on the number of threads, and the images go side by side.
    return lambda images: list(means.pool.map(alone, images))


def _cellpose(settings: CropCells, means: Means) -> Segmenter:
    from buffycoat.crop.cellpose_method import load_model, segment_by_cellpose
    from buffycoat.crop.embedded_method import fine_nuclei, rough_nuclei
    from buffycoat.crop.segmenter import load_network
    from buffycoat.nets.device import pick_device

    model = load_model(settings, means.pool, means.threads)
    network = load_network(means.trained).to(pick_device())
    return lambda images: segment_by_cellpose(
        model, images, nuclei=partial(rough_nuclei, network), finish=partial(fine_nuclei, network)
    )


METHODS: dict[str, Callable[[CropCells, Means], Segmenter]] = {
    "stain": _stain,
    "embedded": _embedded,
    "cellpose": _cellpose,
}


def load_segmenter(settings: CropCells, means: Means) -> Segmenter:
    """Return the segmenter that the settings choose, its weights loaded."""
    name = settings.chosen_method()
    log.info("method: %s%s", name, f", trained weights {means.trained}" if means.trained else "")
    return METHODS[name](settings, means)
