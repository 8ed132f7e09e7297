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
from buffycoat.data.images import MAX_PIXELS, ImageProblem, decode_with_note
from buffycoat.data.tables.index import IMAGES, PIXELS
from buffycoat.index.alike import Portrait, first_alike, portrait_of
from buffycoat.index.settings import Columns, MakeIndex
from buffycoat.index.sources import Listing, found_files, read_listing

log = logging.getLogger("buffycoat")
MAX_BYTES = 200_000_000
"""Larger files are not read (status too_large): images of single cells are far smaller."""


@dataclass(frozen=True)
class Finding:
    """What was found out about one file; sizes in pixels, None where there are none.

    `note` tells what was not plain about its pixels, `portrait` is what is compared of them.
    """

    status: str = "ok"
    reason: str = ""
    width: int | None = None
    height: int | None = None
    sha256: str | None = None
    note: str = ""
    portrait: Portrait | None = None


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
        pixels, note = decode_with_note(data, max_pixels)
    except ImageProblem as problem:
        return Finding(problem.status, str(problem), sha256=digest)
    height, width = pixels.shape[:2]
    return Finding(width=width, height=height, sha256=digest, note=note, portrait=portrait_of(pixels))


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


def pixel_table(ids: pd.Series, findings: list[Finding]) -> pd.DataFrame:
    """Return the table of what the pixels tell, and of near copies among the images."""
    portraits = [finding.portrait for finding in findings]
    digests = [portrait.digest if portrait else None for portrait in portraits]
    first = first_alike(digests, [portrait.look if portrait else None for portrait in portraits])
    return pd.DataFrame(
        {
            "image_id": ids,
            "digest": pd.Series(digests, dtype=object),
            "grey": pd.Series([portrait.grey if portrait else None for portrait in portraits], dtype="boolean"),
            "note": [finding.note for finding in findings],
            "near_copy_of": pd.Series([None if k is None else ids.iloc[k] for k in first], dtype=object),
        }
    )


def checked_images(listing: Listing, threads: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table of images in the order of the source, and that of their pixels."""
    frame = listing.frame.copy()
    findings = check_files(listing, threads)
    for field in ("status", "reason", "width", "height", "sha256"):
        frame[field] = pd.Series([getattr(finding, field) for finding in findings], dtype=object)
    for size in ("width", "height"):
        frame[size] = frame[size].astype("Int32")
    frame["path"] = [Path(os.path.join(listing.root, name.replace("\x00", "?"))).as_posix() for name in frame["file"]]
    return frame, pixel_table(frame["image_id"].reset_index(drop=True), findings)


def make_index(
    *, data: Path, lists: list[Path] | None = None, folders: list[Path] | None = None, images: Path, pixels: Path,
    threads: int = 1, columns: Columns, settings: MakeIndex,
) -> None:  # fmt: skip
    """Check every listed image once and write the tables of images and of their pixels.

    `lists` and `folders` are the parts of `data` that are read; Snakemake watches the folders, and of the lists the
    rows without labels. Raises InputError where something is missing, or no image has pixels.
    """
    absent = [str(source) for source in [*(lists or []), *(folders or [])] if not source.exists()]
    if absent:
        raise InputError(f"{absent[0]}: no such file; correct `data`, or put it there")
    listing = found_files(read_listing(str(data), columns, settings))
    for note in listing.notes:
        log.info("%s", note)
    frame, of_pixels = checked_images(listing, threads)
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
    PIXELS.write(of_pixels, pixels)


if __name__ == "__main__":
    run(make_index)
