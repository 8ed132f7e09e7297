"""Step `crop_cells`: the primary white cell of each image, cut out, with its mask, into image shards."""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.core.files import whole_folder
from buffycoat.core.progress import track
from buffycoat.core.scale import scale_line, scale_of, scale_sentences
from buffycoat.core.steps import run
from buffycoat.crop.framing import Framed, frame_cell
from buffycoat.crop.settings import CropCells
from buffycoat.crop.stain import segment_by_stain
from buffycoat.data.gather_portions import ALL, rows_of_portion
from buffycoat.data.images import ImageProblem, Pixels, ShardWriter, decode_bytes, relative_shard
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import IMAGES, decodable
from buffycoat.data.tables.schema import require_same_keys

T = TypeVar("T")
log = logging.getLogger("buffycoat")
Place = tuple[str, str, int]
"""A file, its SHA-256 and its number of pixels."""
Segmenter = Callable[[list[Pixels]], Iterable[tuple[Pixels, int]]]
"""Images to (mask of the primary cell, number of white cells), in order; answers may still be in the making."""
MOST_PIXELS = 256_000_000
"""Pixels of the images that are decoded at once: 0.8 GB, twice as many while the next ones are in the making."""
CROP_BATCH = 64
"""Images worked on at once, per process; ours: as many as one batch of Cellpose's tiles."""
RESTORE = "put the file back, or index anew (--forcerun make_index)"
"""What to do about an image that is not the one that was indexed."""


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


@dataclass(frozen=True)
class Cropper:
    """What cutting out cells needs."""

    segment: Segmenter
    """Images to the masks of their primary cells."""
    settings: CropCells
    """Window and size of the crops, pixels."""
    pool: ThreadPoolExecutor
    """Decodes the images of a batch side by side."""


def load_cropper(settings: CropCells, pool: ThreadPoolExecutor, threads: int, trained: Path | None) -> Cropper:
    """Return the cropper; `threads` are those of `pool`, `trained` is a segmenter of the user's own, if any."""
    return Cropper(load_segmenter(settings, Means(pool, threads, trained)), settings, pool)


def load_again(path: str, sha256: str) -> Pixels:
    """Return an image that the index has seen; raises InputError where it has vanished or changed since."""
    try:
        data = Path(path).read_bytes()
    except OSError as problem:
        raise InputError(f"{path}: {problem.strerror}; it was sound when indexed: {RESTORE}") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(f"{path}: has changed since it was indexed: {RESTORE}")
    try:
        # The index has judged its size.
        return decode_bytes(data, max_pixels=sys.maxsize)
    except ImageProblem as problem:
        raise InputError(f"{path}: {problem}; it was sound when indexed: {RESTORE}") from None


def one_ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield the items in order, each after the next one has been made: what is in the making is not waited for."""
    waiting: list[T] = []
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting


def chunks_of(places: Iterable[Place], most: int) -> Iterator[list[Place]]:
    """Yield the files in order, at most `most` at once, and no more than fit into a fixed number of pixels."""
    chunk: list[Place] = []
    pixels = 0
    for place in places:
        if chunk and (len(chunk) == most or pixels + place[2] > MOST_PIXELS):
            yield chunk
            chunk, pixels = [], 0
        chunk.append(place)
        pixels += place[2]
    if chunk:
        yield chunk


def framed_cells(rows: pd.DataFrame, cropper: Cropper) -> Iterator[Framed]:
    """Yield the framed cell of each row, in order, whatever the number of threads of the pool."""
    settings = cropper.settings
    # OpenCV would start threads of its own inside each of ours.
    cv2.setNumThreads(1)
    sizes = rows["width"].astype(int) * rows["height"].astype(int)
    places = zip(rows["path"], rows["sha256"], sizes, strict=True)

    def begun() -> Iterator[tuple[list[Pixels], Iterable[tuple[Pixels, int]]]]:
        for chunk in chunks_of(places, CROP_BATCH):
            images = list(cropper.pool.map(lambda place: load_again(*place[:2]), chunk))
            yield images, cropper.segment(images)

    for images, found in one_ahead(begun()):
        for image, (mask, masks) in zip(images, found, strict=True):
            yield frame_cell(image, mask, masks, settings.window_px, settings.size_px)


def apply(images: pd.DataFrame, cropper: Cropper, shards: Path, table: Path) -> pd.DataFrame:
    """Return the rows of crops (table CROPS) of decodable images, in their order; writes the shards whole.

    Parameters: images, with image_id, path, width, height (pixels) and sha256; shards, the folder that the crops and
    masks are written to; table, the file that the rows are for: they name shards relative to its folder. Raises
    InputError where a file has vanished or changed since it was checked.
    """
    settings = cropper.settings
    rows: list[dict[str, Any]] = []
    cells = track(framed_cells(images, cropper), "crop_cells", total=len(images))
    with whole_folder(shards) as folder, ShardWriter(folder, settings.size_px) as writer:
        for image_id, framed in zip(images["image_id"], cells, strict=True):
            name, shard_row, crc32 = writer.add(str(image_id), framed.crop, framed.mask)
            entry = {name: value for name, value in asdict(framed).items() if name not in ("crop", "mask")}
            shard = relative_shard(shards, name, table)
            rows.append({"image_id": image_id, "shard": shard, "shard_row": shard_row, "crc32": crc32, **entry})
    columns = [column.name for column in CROPS.columns]
    crops = pd.DataFrame(rows, columns=columns).assign(window_px=settings.window_px)
    require_same_keys(crops["image_id"], images["image_id"], str(table))
    return crops


def crop_cells(
    *,
    images: Path,
    segmenter: list[Path] | None = None,
    crops: Path,
    shards: Path,
    portion: str = ALL,
    threads: int = 1,
    settings: CropCells,
) -> None:
    """Find and cut out the primary cell of every decodable image; write the shards and the table of crops.

    With `portion`, of these images alone.
    """
    rows = rows_of_portion(decodable(IMAGES.read(images)), portion, CROP_BATCH)
    threads = max(1, threads)
    with ThreadPoolExecutor(threads) as pool:
        cropper = load_cropper(settings, pool, threads, segmenter[0] if segmenter else None)
        table = apply(rows, cropper, shards, crops)
    CROPS.write(table, crops)
    figures = scale_of(table, rows)
    for sentence in scale_sentences(figures):
        log.warning("%s", sentence)
    log.info("%s", scale_line(figures))


if __name__ == "__main__":
    run(crop_cells)
