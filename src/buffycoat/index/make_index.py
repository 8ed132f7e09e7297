"""Step `make_index`: every image of the user's data set, checked, with a status; no label is read."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.core.steps import run
from buffycoat.data.tables.index import IMAGES
from buffycoat.index.checking import check_files
from buffycoat.index.settings import Columns, MakeIndex
from buffycoat.index.sources import Listing, read_listing

log = logging.getLogger("buffycoat")


def checked_images(listing: Listing, threads: int) -> pd.DataFrame:
    """Return the table of images in the order of the source."""
    frame = listing.frame.copy()
    names = frame["file"].tolist()
    findings = check_files(names, listing.root, threads)
    for field in ("status", "reason", "width", "height", "sha256"):
        frame[field] = pd.Series([getattr(finding, field) for finding in findings], dtype=object)
    for size in ("width", "height"):
        frame[size] = frame[size].astype("Int32")
    frame["path"] = [Path(os.path.join(listing.root, name.replace("\x00", "?"))).as_posix() for name in names]
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
    frame = checked_images(read_listing(str(data), columns, settings), threads)
    counts = Counter(frame["status"])
    log.info("%d images: %s", len(frame), dict(counts))
    if not counts["ok"]:
        first = frame.iloc[0]
        raise InputError(f"{data}: no image can be read: {dict(counts)}; {first['image_id']}: {first['reason']}")
    IMAGES.write(frame[[column.name for column in IMAGES.columns]], images)


if __name__ == "__main__":
    run(make_index)
