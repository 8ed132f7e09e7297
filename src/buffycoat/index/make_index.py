"""Step `make_index`: every image of the user's data set, checked, with a status; no label is read."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.core.progress import Progress
from buffycoat.core.steps import run
from buffycoat.data.images import MAX_PIXELS, ImageProblem, decode_bytes
from buffycoat.data.tables.index import IMAGES
from buffycoat.index.settings import Columns, MakeIndex
from buffycoat.index.sources import Listing, found_files, read_listing

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
    path = root / name
    try:
        if not path.is_file():
            return Finding("missing", "no such file" if not path.exists() else "not a file")
        size = path.stat().st_size
        if size > max_bytes:
            return Finding("too_large", f"{size / 1e6:.0f} MB; at most {max_bytes / 1e6:.0f} MB are read")
        data = path.read_bytes()
    except OSError as problem:
        return Finding("unreadable", f"the file cannot be read: {problem.strerror}")
    digest = hashlib.sha256(data).hexdigest()
    try:
        pixels = decode_bytes(data, max_pixels)
    except ImageProblem as problem:
        return Finding(problem.status, str(problem), sha256=digest)
    return Finding(width=pixels.shape[1], height=pixels.shape[0], sha256=digest)


def check_files(listing: Listing, threads: int) -> list[Finding]:
    """Return the findings of all files in order; the same whatever the number of threads."""
    names = listing.frame["file"].tolist()
    progress = Progress("make_index", len(names))

    def check(place: int) -> Finding:
        reason = listing.lost.get(place)
        return Finding("missing", reason) if reason else check_file(names[place], listing.root)

    findings = []
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for finding in pool.map(check, range(len(names)), chunksize=16):
            findings.append(finding)
            progress.step()
    return findings


def checked_images(listing: Listing, threads: int) -> pd.DataFrame:
    """Return the table of images in the order of the source."""
    frame = listing.frame.copy()
    findings = check_files(listing, threads)
    for field in ("status", "reason", "width", "height", "sha256"):
        frame[field] = pd.Series([getattr(finding, field) for finding in findings], dtype=object)
    for size in ("width", "height"):
        frame[size] = frame[size].astype("Int32")
    frame["path"] = [Path(os.path.join(listing.root, name.replace("\x00", "?"))).as_posix() for name in frame["file"]]
    return frame


def make_index(
    *, data: Path, lists: list[Path] | None = None, folders: list[Path] | None = None, images: Path, threads: int = 1,
    columns: Columns, settings: MakeIndex,
) -> None:  # fmt: skip
    """Check every listed image once and write the table of images.

    `lists` and `folders` are the parts of `data` that are read; Snakemake watches the folders, and of the lists the
    rows without labels. Raises InputError where something is missing, or no image has pixels.
    """
    absent = [str(source) for source in [*(lists or []), *(folders or [])] if not source.exists()]
    if absent:
        raise InputError(f"{absent[0]}: no such file; correct `data`, or put it there")
    listing = found_files(read_listing(str(data), columns, settings))
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
