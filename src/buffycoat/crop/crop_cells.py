"""Step `crop_cells`: the primary white cell of each image, cut out, with its mask, into image shards."""

from __future__ import annotations

import functools
import hashlib
import logging
import sys
import threading
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
from buffycoat.crop.framing import NO_CELL, Answer, Framed, Segment, View, frame_box, frame_cell, region_of_box
from buffycoat.crop.settings import CropCells
from buffycoat.crop.stain import segment_by_stain
from buffycoat.data.gather_portions import ALL, rows_of_portion
from buffycoat.data.images import ImageProblem, Pixels, ShardWriter, decode_bytes, relative_shard
from buffycoat.data.locations import Box, Location, boxes_of, locations_of, read_encoded
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import IMAGES, decodable
from buffycoat.data.tables.schema import require_same_keys

T = TypeVar("T")
log = logging.getLogger("buffycoat")
Segmenter = Callable[[list[Pixels]], Iterable[tuple[Pixels, int]]]
"""Images to (mask of the primary cell, number of white cells), in order; answers may still be in the making."""
MOST_PIXELS = 256_000_000
"""Pixels of the images that are decoded at once: 0.8 GB, twice as many while the next ones are in the making."""
FIRST_ALONE = threading.Lock()
"""Threads that need the network wait for the one that loads it."""
CROP_BATCH = 64
"""Images worked on at once, per process; ours: as many as one batch of Cellpose's tiles."""
RESTORE = "put the file back, or index anew (--forcerun make_index)"
"""What to do about an image that is not the one that was indexed."""


class Job(NamedTuple):
    """Where an image is, the SHA-256 of its bytes, its number of pixels, and the box of the cell, if it has one."""

    location: Location
    sha256: str
    pixels: int
    box: Box | None = None


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


def by_stain(view: View) -> Answer:
    """Return the primary cell of a window by its stain."""
    mask, cells = segment_by_stain(view.window)
    return Answer([mask], cells)


def boxed_segmenter(settings: CropCells, means: Means) -> Segment:
    """Return what finds the cell in a box: the stain, or else the embedded network, loaded when it is first asked."""
    if settings.chosen_method() == "stain":
        return by_stain

    @functools.cache
    def loaded() -> tuple[Any, Any]:
        from buffycoat.crop.segmenter import load_network
        from buffycoat.nets.device import pick_device

        log.info("boxes: the embedded network finds the cell in each")
        device = pick_device()
        return load_network(means.trained).to(device), device

    def segment(view: View) -> Answer:
        import torch

        from buffycoat.crop.embedded_method import cell_nearest

        with FIRST_ALONE:
            network, device = loaded()
        if device.type != "cuda":
            torch.set_num_threads(1)
        return Answer(*cell_nearest(network, view.window, region_of_box(view.box, *view.window.shape[:2])))

    return segment


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
    boxed: Segment
    """A window around a box to the masks of its cells."""
    settings: CropCells
    """Window and size of the crops, pixels."""
    pool: ThreadPoolExecutor
    """Decodes the images of a batch side by side."""


def load_cropper(settings: CropCells, pool: ThreadPoolExecutor, threads: int, trained: Path | None) -> Cropper:
    """Return the cropper; `threads` are those of `pool`, `trained` is a segmenter of the user's own, if any."""
    means = Means(pool, threads, trained)
    return Cropper(load_segmenter(settings, means), boxed_segmenter(settings, means), settings, pool)


def load_again(location: Location, sha256: str) -> Pixels:
    """Return an image that the index has seen; raises InputError where it has vanished or changed since."""
    try:
        data = read_encoded(location)
    except OSError as problem:
        raise InputError(f"{location}: {problem.strerror}; it was sound when indexed: {RESTORE}") from None
    except ImageProblem as problem:
        raise InputError(f"{location}: {problem}; it was sound when indexed: {RESTORE}") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(f"{location}: has changed since it was indexed: {RESTORE}")
    try:
        # The index has judged its size.
        return decode_bytes(data, max_pixels=sys.maxsize)
    except ImageProblem as problem:
        raise InputError(f"{location}: {problem}; it was sound when indexed: {RESTORE}") from None


def one_ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield the items in order, each after the next one has been made: what is in the making is not waited for."""
    waiting: list[T] = []
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting


def chunks_of(jobs: Iterable[Job], most: int) -> Iterator[list[Job]]:
    """Yield the jobs in order, at most `most` at once, and no more than fit into a fixed number of pixels.

    A field counts once for all of its boxes.
    """
    chunk: list[Job] = []
    fields: set[Location] = set()
    pixels = 0
    for job in jobs:
        more = 0 if job.box is not None and job.location in fields else job.pixels
        if chunk and (len(chunk) == most or pixels + more > MOST_PIXELS):
            yield chunk
            chunk, fields, pixels, more = [], set(), 0, job.pixels
        chunk.append(job)
        fields.add(job.location)
        pixels += more
    if chunk:
        yield chunk


def framed_cells(rows: pd.DataFrame, cropper: Cropper) -> Iterator[Framed]:
    """Yield the framed cell of each row, in order, whatever the number of threads of the pool."""
    settings = cropper.settings
    # OpenCV would start threads of its own inside each of ours.
    cv2.setNumThreads(1)
    sizes = rows["width"].astype(int) * rows["height"].astype(int)
    jobs = map(Job, locations_of(rows), rows["sha256"], sizes, boxes_of(rows))

    def begun() -> Iterator[tuple[list[Job], list[Pixels], Iterable[tuple[Pixels, int]], Iterable[Framed]]]:
        for chunk in chunks_of(jobs, CROP_BATCH):
            # A field is decoded once for all of its boxes.
            different = dict.fromkeys((job.location, job.sha256) for job in chunk)
            images = dict(zip(different, cropper.pool.map(lambda key: load_again(*key), different), strict=True))
            seen = [images[job.location, job.sha256] for job in chunk]
            whole = [image for job, image in zip(chunk, seen, strict=True) if job.box is None]
            boxed = [(image, job.box) for job, image in zip(chunk, seen, strict=True) if job.box is not None]
            yield chunk, seen, cropper.segment(whole) if whole else [], framed_boxes(boxed, cropper)

    for chunk, images, found, boxes in one_ahead(begun()):
        masks, framed = iter(found), iter(boxes)
        for job, image in zip(chunk, images, strict=True):
            if job.box is None:
                yield frame_cell(image, *next(masks), settings.window_px, settings.size_px)
            else:
                yield next(framed)


def framed_boxes(boxed: list[tuple[Pixels, Box]], cropper: Cropper) -> Iterable[Framed]:
    """Return the framed cell of each box on its field, in order."""
    window_px, size_px = cropper.settings.window_px, cropper.settings.size_px
    return cropper.pool.map(lambda pair: frame_box(pair[0], pair[1], cropper.boxed, window_px, size_px), boxed)


def apply(images: pd.DataFrame, cropper: Cropper, shards: Path, table: Path) -> pd.DataFrame:
    """Return the rows of crops (table CROPS) of decodable images, in their order; writes the shards whole.

    Parameters: images, with image_id, path, width, height (pixels), sha256, and the columns of places in Parquet files
    and of boxes on fields where there are such; shards, the folder that the crops and masks are written to; table, the
    file that the rows are for: they name shards relative to its folder. Raises InputError where a file has vanished or
    changed since it was checked.
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
    if alone := int((crops["reason"] == NO_CELL).sum()):
        log.info(
            "boxes: in %d of %d no white cell was found that fills the box: its ellipse is taken", alone, len(crops)
        )
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
