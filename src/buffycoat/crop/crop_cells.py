"""Step `crop_cells`: the primary white cell of each image, cut out, with its mask, into image shards."""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import cv2
import pandas as pd

from buffycoat.crop.framing import Framed, frame_cell
from buffycoat.crop.methods import Means, chosen_method
from buffycoat.crop.settings import CropCells
from buffycoat.errors import InputError
from buffycoat.files import whole_folder
from buffycoat.images import ImageProblem, Pixels, ShardWriter, decode_bytes, relative_shard
from buffycoat.progress import Progress
from buffycoat.steps import run
from buffycoat.tables.crops import CROPS
from buffycoat.tables.images import IMAGES, decodable
from buffycoat.tables.schema import require_same_keys

T = TypeVar("T")
RESTORE = "put the file back, or index anew (--forcerun make_index)"
"""What to do about an image that is not the one that was indexed."""


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


def framed_cells(
    rows: pd.DataFrame, settings: CropCells, threads: int, trained: Path | None = None
) -> Iterator[Framed]:
    """Yield the framed cell of each row, in order, whatever the number of threads."""
    # OpenCV would start threads of its own inside each of ours.
    cv2.setNumThreads(1)
    places = zip(rows["path"], rows["sha256"], strict=True)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        segment = chosen_method(settings, Means(pool, max(1, threads), trained))

        def begun() -> Iterator[tuple[list[Pixels], Iterable[tuple[Pixels, int]]]]:
            while chunk := list(itertools.islice(places, settings.batch_images)):
                images = list(pool.map(lambda place: load_again(*place), chunk))
                yield images, segment(images)

        for images, found in one_ahead(begun()):
            for image, (mask, masks) in zip(images, found, strict=True):
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
