"""Step `make_index`: every image of the user's data set, checked, with a status; no label is read."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.core.progress import Progress
from buffycoat.core.steps import run
from buffycoat.data.images import MAX_PIXELS, ImageProblem, decode_bytes
from buffycoat.data.locations import Location, locations_of, read_encoded
from buffycoat.data.tables.index import BOX, IMAGES, with_places
from buffycoat.index.boxes import on_field
from buffycoat.index.listings import listing_of
from buffycoat.index.settings import Columns, MakeIndex
from buffycoat.index.sources import Listing

log = logging.getLogger("buffycoat")
MAX_BYTES = 200_000_000
"""Larger files are not read (status too_large): images of single cells are far smaller."""


@dataclass(frozen=True)
class Finding:
    """What was found out about one file; sizes in pixels, None where there are none."""

    status: str = "ok"
    reason: str = ""
    width: int | None = None
    height: int | None = None
    sha256: str | None = None


def check_file(name: str, root: Path, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> Finding:
    """Return what there is to know about file `name`, absolute or below `root`; never raises for a fault of the file.

    Whoever lists a file means it: links are followed, and the path may lead anywhere.
    """
    if "\x00" in name:
        return Finding("missing", "no such file: its name holds a character that no file has")
    return check_location(Location(str(root / name)), max_pixels, max_bytes)


def check_location(location: Location, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> Finding:
    """Return what there is to know about a file, or about an image inside a Parquet file; never raises for a fault."""
    path = Path(location.path)
    try:
        if not path.is_file():
            return Finding("missing", "no such file" if not path.exists() else "not a file")
        size = path.stat().st_size if location.row is None else 0
        if size > max_bytes:
            return Finding("too_large", f"{size / 1e6:.0f} MB; at most {max_bytes / 1e6:.0f} MB are read")
        data = read_encoded(location)
    except OSError as problem:
        return Finding("unreadable", f"the file cannot be read: {problem.strerror}")
    except ImageProblem as problem:
        return Finding(problem.status, str(problem))
    digest = hashlib.sha256(data).hexdigest()
    try:
        pixels = decode_bytes(data, max_pixels)
    except ImageProblem as problem:
        return Finding(problem.status, str(problem), sha256=digest)
    return Finding(width=pixels.shape[1], height=pixels.shape[0], sha256=digest)


def check_files(listing: Listing, threads: int) -> list[Finding]:
    """Return the findings of all images in order; the same whatever the number of threads.

    A field is looked at once for all of its cells.
    """
    places = locations_of(listing.frame.assign(path=listing.frame["file"]))
    different = dict(zip(places, range(len(places)), strict=True))
    progress = Progress("make_index", len(different))

    def check(place: Location) -> Finding:
        if reason := listing.lost.get(different[place]):
            return Finding("missing", reason)
        return check_location(place) if listing.root is None else check_file(place.path, listing.root)

    findings: dict[Location, Finding] = {}
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for place, finding in zip(different, pool.map(check, different, chunksize=16), strict=True):
            findings[place] = finding
            progress.step()
    return [findings[place] for place in places]


def checked_images(listing: Listing, threads: int) -> pd.DataFrame:
    """Return the table of images in the order of the source."""
    frame = listing.frame.reset_index(drop=True)
    findings = check_files(listing, threads)
    for field in ("status", "reason", "width", "height", "sha256"):
        frame[field] = pd.Series([getattr(finding, field) for finding in findings], dtype=object)
    if "relative" in frame.columns:
        frame = with_boxes(frame)
    for size in ("width", "height"):
        frame[size] = frame[size].astype("Int32")
    root = listing.root or ""
    frame["path"] = [Path(os.path.join(root, name.replace("\x00", "?"))).as_posix() for name in frame["file"]]
    return with_places(frame)


def with_boxes(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of cells on fields with their boxes in pixels, cut at the field's border.

    A box that shows no cell has the status bad_box and keeps the sides that its annotation has; of a field that cannot
    be read it keeps them where they are pixels.
    """
    given = frame[list(BOX)].to_numpy(np.float64)
    boxes = np.full_like(given, np.nan)
    statuses, reasons = frame["status"].tolist(), frame["reason"].tolist()
    cut = 0
    for row, (relative, size, width, height) in enumerate(
        zip(frame["relative"], frame["size"], frame["width"], frame["height"], strict=True)
    ):
        if statuses[row] != "ok":
            boxes[row] = np.nan if relative else given[row]
            continue
        boxes[row] = given[row] * ([width, height, width, height] if relative else 1)
        inside, why = on_field(boxes[row], size, width, height)
        if inside is None:
            statuses[row], reasons[row] = "bad_box", why
            continue
        cut += int(np.abs(inside - boxes[row]).max() > 1)
        boxes[row] = inside
    if cut:
        log.info("%d boxes reach beyond their fields and are cut at the border", cut)
    return frame.assign(status=statuses, reason=reasons, **dict(zip(BOX, boxes.T, strict=True)))


def make_index(
    *, data: Path, lists: list[Path] | None = None, folders: list[Path] | None = None, images: Path, threads: int = 1,
    others: list[str] | None = None, columns: Columns, settings: MakeIndex,
) -> None:  # fmt: skip
    """Check every listed image once and write the table of images.

    `others` are the names of boxes on fields that are no white cells, and so no rows. `lists` and `folders` are the
    parts of `data` that are read; Snakemake watches the folders, and of the lists the rows without labels. Raises
    InputError where something is missing, or no image has pixels.
    """
    absent = [str(source) for source in [*(lists or []), *(folders or [])] if not source.exists()]
    if absent:
        raise InputError(f"{absent[0]}: no such file; correct `data`, or put it there")
    listing = listing_of(str(data), columns, settings, others or [])
    for note in listing.notes:
        log.info("%s", note)
    frame = checked_images(listing, threads)
    counts = Counter(frame["status"])
    roles = Counter(frame["role"])
    log.info(
        "%d images, %d training and %d test: %s", len(frame), roles["train"], roles["test"],
        ", ".join(f"{count} {status}" for status, count in counts.items()),
    )  # fmt: skip
    if not counts["ok"]:
        first = frame.iloc[0]
        advice = f"; {listing.advice}" if listing.advice else ""
        raise InputError(
            f"{data}: no image can be read: {dict(counts)}; {first['image_id']}: {first['reason']}{advice}"
        )
    IMAGES.write(frame[[column.name for column in IMAGES.columns]], images)


if __name__ == "__main__":
    run(make_index)
