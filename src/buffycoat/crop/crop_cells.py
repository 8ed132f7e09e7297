"""Step `crop_cells`: the primary white cell of each image, cut out, with its mask, into image shards."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import pandas as pd

from buffycoat.crop.framing import Framed, frame_cell
from buffycoat.crop.settings import CropCells
from buffycoat.crop.stain import segment_by_stain
from buffycoat.errors import InputError
from buffycoat.files import whole_folder
from buffycoat.images import ImageProblem, Pixels, ShardWriter, decode_image, relative_shard
from buffycoat.progress import Progress
from buffycoat.steps import run
from buffycoat.tables.crops import CROPS
from buffycoat.tables.images import IMAGES, decodable
from buffycoat.tables.schema import require_same_keys

log = logging.getLogger("buffycoat")
Segmenter = Callable[[list[Pixels]], list[tuple[Pixels, int]]]
"""Images to (mask of the primary cell, number of white cells), in order."""


def _stain(settings: CropCells, pool: ThreadPoolExecutor, segmenter: Path | None) -> Segmenter:
    one = partial(
        segment_by_stain,
        work_px=settings.work_px,
        min_nucleus_share=settings.min_nucleus_share,
        centrality=settings.centrality,
    )
    return lambda images: list(pool.map(one, images))


def _embedded(settings: CropCells, pool: ThreadPoolExecutor, segmenter: Path | None) -> Segmenter:
    import torch

    from buffycoat.crop.embedded_method import segment_by_network
    from buffycoat.crop.segmenter import load_network
    from buffycoat.device import pick_device

    device = pick_device()
    network = load_network(segmenter).to(device)
    segment = partial(
        segment_by_network, network, min_cell_share=settings.min_cell_share, centrality=settings.centrality
    )
    if device.type == "cuda":
        return segment

    def alone(image: Pixels) -> tuple[Pixels, int]:
        torch.set_num_threads(1)
        return segment([image])[0]

    # On a CPU every image goes through the network alone, on one thread: its mask does not depend on its neighbours
    # in a batch or on the number of threads, and the images go side by side.
    return lambda images: list(pool.map(alone, images))


def _cellpose(settings: CropCells, pool: ThreadPoolExecutor, segmenter: Path | None) -> Segmenter:
    from buffycoat.crop.cellpose_method import load_model, segment_by_cellpose

    model = load_model(settings)
    return lambda images: segment_by_cellpose(model, images, settings)


METHODS: dict[str, Callable[[CropCells, ThreadPoolExecutor, Path | None], Segmenter]] = {
    "stain": _stain,
    "embedded": _embedded,
    "cellpose": _cellpose,
}


def load_again(path: str, width: int, height: int) -> Pixels:
    """Return an image that the index has seen; raises InputError where it has vanished or changed since."""
    try:
        image = decode_image(Path(path))
    except ImageProblem as problem:
        raise InputError(f"{problem}; it was sound when indexed: restore it, or delete results/1_index") from None
    if image.shape[:2] != (height, width):
        raise InputError(f"{path}: its size has changed since it was indexed; delete results/1_index and run again")
    return image


def framed_cells(
    rows: pd.DataFrame, settings: CropCells, threads: int, segmenter: Path | None = None
) -> Iterator[Framed]:
    """Yield the framed cell of each row, in order, whatever the number of threads."""
    # OpenCV would start threads of its own inside each of ours.
    cv2.setNumThreads(1)
    places = zip(rows["path"], rows["width"].astype(int), rows["height"].astype(int), strict=True)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        segment = METHODS[settings.chosen_method()](settings, pool, segmenter)
        while chunk := list(itertools.islice(places, settings.batch_images)):
            images = list(pool.map(lambda place: load_again(*place), chunk))
            for image, (mask, masks) in zip(images, segment(images), strict=True):
                yield frame_cell(image, mask, masks, settings.window_px, settings.size_px)


def crop_cells(
    *,
    images: Path,
    segmenter: list[Path] | None = None,
    crops: Path,
    shards: Path,
    threads: int = 1,
    settings: CropCells,
) -> None:
    """Find and cut out the primary cell of every decodable image; write the shards and the table of crops."""
    rows = decodable(IMAGES.read(images))
    trained = segmenter[0] if segmenter else None
    log.info("method: %s%s", settings.chosen_method(), f", trained weights {trained}" if trained else "")
    progress = Progress("crop_cells", len(rows))
    table: list[dict[str, Any]] = []
    with whole_folder(shards) as folder:
        with ShardWriter(folder, settings.size_px) as writer:
            cells = framed_cells(rows, settings, threads, trained)
            for image_id, framed in zip(rows["image_id"], cells, strict=True):
                name, shard_row, crc32 = writer.add(str(image_id), framed.crop, framed.mask)
                entry = {name: value for name, value in asdict(framed).items() if name not in ("crop", "mask")}
                shard = relative_shard(shards, name, crops)
                table.append({"image_id": image_id, "shard": shard, "shard_row": shard_row, "crc32": crc32, **entry})
                progress.step()
    frame = pd.DataFrame(table).assign(window_px=settings.window_px)
    require_same_keys(frame["image_id"], rows["image_id"], str(crops))
    CROPS.write(frame, crops)


if __name__ == "__main__":
    run(crop_cells)
