"""Step `make_index`: every image of the user's data set, checked, with a status; no label is read."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.core.progress import Progress
from buffycoat.core.steps import run
from buffycoat.data.images import MAX_PIXELS, ImageProblem, Pixels, decode_with_note
from buffycoat.data.locations import Location, locations_of, read_encoded
from buffycoat.data.tables.index import BOX, IMAGES, PIXELS, with_places
from buffycoat.index.alike import Portrait, first_alike, portrait_of
from buffycoat.index.boxes import on_field
from buffycoat.index.listings import listing_of
from buffycoat.index.settings import Columns, MakeIndex
from buffycoat.index.sources import Listing

log = logging.getLogger("buffycoat")
MAX_BYTES = 200_000_000
"""Larger files are not read (status too_large): images of single cells are far smaller."""
AROUND = 1.5
"""Side of what is compared of a cell on a field, as a multiple of its box's longer side; ours."""


class Given(NamedTuple):
    """A box as its annotation has it: left, top, right, bottom; `relative`: as shares of the field's sides.

    `size`: the field's width and height as the annotation has them, pixels.
    """

    box: tuple[float, ...]
    relative: bool
    size: tuple[int, int] | None

    def on(self, width: int, height: int) -> tuple[np.ndarray | None, str, np.ndarray]:
        """Return the box cut at its field's border (None and why where it shows no cell), and uncut; pixels."""
        box = np.array(self.box) * ([width, height, width, height] if self.relative else 1)
        return *on_field(box, self.size, width, height), box

    def window(self, field: Pixels) -> Pixels | None:
        """Return the cell with what is around it, (h, w, 3) uint8, of its field; None where the box shows no cell."""
        inside, _, _ = self.on(field.shape[1], field.shape[0])
        if inside is None:
            return None
        left, top, right, bottom = inside
        reach = max(right - left, bottom - top) * AROUND / 2
        row, col = (top + bottom) / 2, (left + right) / 2
        rows = slice(max(0, round(row - reach)), round(row + reach))
        return np.ascontiguousarray(field[rows, max(0, round(col - reach)) : round(col + reach)])


def given_boxes(frame: pd.DataFrame) -> list[Given]:
    """Return the boxes of cells on fields, a row each; none of other data."""
    if "relative" not in frame.columns:
        return []
    boxes = frame[list(BOX)].to_numpy(np.float64).tolist()
    return [Given(tuple(box), *rest) for box, *rest in zip(boxes, frame["relative"], frame["size"], strict=True)]


@dataclass(frozen=True)
class Finding:
    """What was found out about one file; sizes in pixels, None where there are none.

    `note` tells what was not plain about its pixels, `portrait` is what is compared of them; `cells` are the portraits
    of the cells on a field, None where a box shows none.
    """

    status: str = "ok"
    reason: str = ""
    width: int | None = None
    height: int | None = None
    sha256: str | None = None
    note: str = ""
    portrait: Portrait | None = None
    cells: tuple[Portrait | None, ...] = ()


def check_file(name: str, root: Path, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> Finding:
    """Return what there is to know about file `name`, absolute or below `root`; never raises for a fault of the file.

    Whoever lists a file means it: links are followed, and the path may lead anywhere.
    """
    if "\x00" in name:
        return Finding("missing", "no such file: its name holds a character that no file has")
    return check_location(Location(str(root / name)), max_pixels, max_bytes)


def check_location(
    location: Location, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES, boxes: Sequence[Given] = ()
) -> Finding:
    """Return what there is to know about a file, or about an image inside a Parquet file; never raises for a fault.

    `boxes` are those of the cells on it.
    """
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
        pixels, note = decode_with_note(data, max_pixels)
    except ImageProblem as problem:
        return Finding(problem.status, str(problem), sha256=digest)
    height, width = pixels.shape[:2]
    windows = [box.window(pixels) for box in boxes]
    cells = tuple(None if window is None else portrait_of(window) for window in windows)
    return Finding(width=width, height=height, sha256=digest, note=note, portrait=portrait_of(pixels), cells=cells)


def check_files(listing: Listing, threads: int) -> tuple[list[Finding], list[Portrait | None]]:
    """Return the findings of all images in order, and what is compared of each; the same for any number of threads.

    A field is looked at once for all of its cells.
    """
    places = locations_of(listing.frame.assign(path=listing.frame["file"]))
    different = dict(zip(places, range(len(places)), strict=True))
    boxes: dict[Location, list[Given]] = {}
    for place, given in zip(places, given_boxes(listing.frame), strict=False):
        boxes.setdefault(place, []).append(given)
    progress = Progress("make_index", len(different))

    def check(place: Location) -> Finding:
        if reason := listing.lost.get(different[place]):
            return Finding("missing", reason)
        if listing.root is None:
            return check_location(place, boxes=boxes.get(place, []))
        return check_file(place.path, listing.root)

    findings: dict[Location, Finding] = {}
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for place, finding in zip(different, pool.map(check, different, chunksize=16), strict=True):
            findings[place] = finding
            progress.step()
    cells = {place: iter(finding.cells) for place, finding in findings.items()}
    compared = [next(cells[place], None) if boxes else findings[place].portrait for place in places]
    return [findings[place] for place in places], compared


def pixel_table(ids: pd.Series, findings: list[Finding], cells: list[Portrait | None]) -> pd.DataFrame:
    """Return the table of what the pixels tell, and of near copies.

    `cells` are what is compared of each row: the image, or of a field the cell in its box.
    """
    portraits = [finding.portrait for finding in findings]
    digests = [None if portrait is None else portrait.digest for portrait in portraits]
    # The same pixels in one field are one cell; in two fields, which overlap, they are copies.
    keys = [None if cell is None else f"{digest} {cell.digest}" for digest, cell in zip(digests, cells, strict=True)]
    first = first_alike(keys, [None if cell is None else cell.look for cell in cells])
    return pd.DataFrame(
        {
            "image_id": ids,
            "digest": pd.Series(digests, dtype=object),
            "grey": pd.Series([portrait and portrait.grey for portrait in portraits], dtype="boolean"),
            "note": [finding.note for finding in findings],
            "near_copy_of": pd.Series([None if k is None else ids.iloc[k] for k in first], dtype=object),
        }
    )


def checked_images(listing: Listing, threads: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table of images in the order of the source, and that of their pixels."""
    frame = listing.frame.reset_index(drop=True)
    findings, cells = check_files(listing, threads)
    for field in ("status", "reason", "width", "height", "sha256"):
        frame[field] = pd.Series([getattr(finding, field) for finding in findings], dtype=object)
    if "relative" in frame.columns:
        frame = with_boxes(frame)
    for size in ("width", "height"):
        frame[size] = frame[size].astype("Int32")
    root = listing.root or ""
    frame["path"] = [Path(os.path.join(root, name.replace("\x00", "?"))).as_posix() for name in frame["file"]]
    return with_places(frame), pixel_table(frame["image_id"], findings, cells)


def with_boxes(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of cells on fields with their boxes in pixels, cut at the field's border.

    A box that shows no cell has the status bad_box and keeps the sides that its annotation has; of a field that cannot
    be read it keeps them where they are pixels.
    """
    given = given_boxes(frame)
    boxes = np.full((len(frame), len(BOX)), np.nan)
    statuses, reasons = frame["status"].tolist(), frame["reason"].tolist()
    cut = 0
    for row, (width, height) in enumerate(zip(frame["width"], frame["height"], strict=True)):
        if statuses[row] != "ok":
            boxes[row] = np.nan if given[row].relative else given[row].box
            continue
        inside, why, boxes[row] = given[row].on(width, height)
        if inside is None:
            statuses[row], reasons[row] = "bad_box", why
            continue
        cut += int(np.abs(inside - boxes[row]).max() > 1)
        boxes[row] = inside
    if cut:
        log.info("%d boxes reach beyond their fields and are cut at the border", cut)
    return frame.assign(status=statuses, reason=reasons, **dict(zip(BOX, boxes.T, strict=True)))


def make_index(
    *, data: Path, lists: list[Path] | None = None, folders: list[Path] | None = None, images: Path, pixels: Path,
    threads: int = 1, others: list[str] | None = None, columns: Columns, settings: MakeIndex,
) -> None:  # fmt: skip
    """Check every listed image once and write the tables of images and of their pixels.

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
