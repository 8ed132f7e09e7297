"""What a data set holds, in a few lines, before anything runs: what `buffycoat init` prints."""

from __future__ import annotations

import io
import os
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from buffycoat.data.images import FORMATS, ImageProblem
from buffycoat.data.locations import locations_of, read_encoded
from buffycoat.index.boxes import count_line, names_left_out, one_class, slides_of
from buffycoat.index.lists import Kind, kind_of
from buffycoat.index.make_labels import class_list, pseudo_groups, read_opinions
from buffycoat.index.settings import Index, MakeLabels
from buffycoat.index.sources import Listing, boxes_in, read_listing

SAMPLE = 200
"""Images whose sizes are read; all of a large set would take minutes."""
KINDS: dict[Kind, str] = {
    "table": "a table of images",
    "class folders": "one folder of images per class",
    "wbcbench": "WBCBench's folder",
    "boxes": "boxes on fields",
    "shards": "Parquet files with images inside",
    "wbcbench_hub": "WBCBench's full release",
}


@dataclass(frozen=True)
class Overview:
    """What a data set holds. `sizes` are (width, height) in pixels of a sample, `unread` its files without one.

    `boxes`: lines about boxes on fields; none for other data.
    """

    data: str
    kind: Kind
    roles: Counter[str]
    splits: Counter[str]
    classes: Counter[str]
    unknown: Counter[str]
    unlabelled: int
    groups: int | None
    sizes: list[tuple[int, int]]
    unread: int
    boxes: list[str]


def _sizes(listing: Listing) -> tuple[list[tuple[int, int]], int]:
    """Return the sizes of at most SAMPLE images, evenly spread over the list, and how many could not be read."""
    from PIL import Image

    root = listing.root or ""
    paths = [os.path.join(root, name) for name in listing.frame["file"]]
    places = list(dict.fromkeys(locations_of(listing.frame.assign(path=paths))))
    sizes, unread = [], 0
    for place in places[:: max(1, -(-len(places) // SAMPLE))]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                source = place.path if place.row is None else io.BytesIO(read_encoded(place))
                with Image.open(source, formats=FORMATS) as header:
                    sizes.append(header.size)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, ImageProblem):
            unread += 1
    return sizes, unread


def look_at(data: str, settings: Index) -> Overview:
    """Return what `data` holds by lists and names, and the sizes of a sample; raises InputError as the index does."""
    kind, boxed = kind_of(data), boxes_in(data, settings.columns, settings.make_index)
    others = [] if boxed is None else names_left_out(set(boxed["label"].dropna()), settings.make_labels)
    listing = read_listing(data, settings.columns, settings.make_index, others)
    opinions = read_opinions(Path(data), settings.columns, settings.make_labels).frame
    frame = listing.frame.merge(opinions, on="image_id", how="left", validate="one_to_one")
    of_training = frame["role"] == "train"
    given = frame.loc[of_training, "label"]
    aliases = settings.make_labels.label_aliases
    labels = Counter(aliases.get(label, label) for label in given.dropna())
    codes = class_list(kind, settings.make_labels, set(labels))
    groups = pseudo_groups(frame) if settings.make_labels.groups == "pseudo_patients" else frame["group"]
    known = groups[of_training & frame["label"].notna()]
    is_known = len(known) > 0 and known.notna().all() and settings.make_labels.groups != "none"
    sizes, unread = _sizes(listing)
    return Overview(
        data=data,
        kind=kind,
        roles=Counter(frame["role"]),
        splits=Counter(map(str, frame["split"].dropna())),
        classes=Counter({code: labels[code] for code in codes}),
        unknown=Counter({label: count for label, count in labels.items() if label not in codes}),
        unlabelled=int(given.isna().sum()),
        groups=int(known.nunique()) if is_known else None,
        sizes=sizes,
        unread=unread,
        boxes=[] if boxed is None else _box_lines(boxed, others, settings.make_labels),
    )


def _box_lines(boxed: pd.DataFrame, others: list[str], settings: MakeLabels) -> list[str]:
    """Return lines about boxes: how many are of white cells, what is left out, and the slides."""
    kept = boxed[~boxed["label"].isin(others)]
    lines = [count_line(boxed, others)]
    if settings.group_pattern or kept["group"].notna().any():
        lines.append(f"slides or patients: {slides_of(kept, settings.group_pattern).nunique()}")
    else:
        lines.append("slides: not known; the cells of one field stay together (index.make_labels.group_pattern)")
    problem = one_class(boxed, settings)
    return [*lines, problem] if problem else lines


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())


def _split_line(seen: Overview) -> str:
    if not seen.roles["test"]:
        parts = f" ({_counts(seen.splits)})" if seen.splits else ""
        return f"split: none for testing{parts}; all are for training, and scored by folds that have not seen them"
    return f"split: {seen.roles['train']} training, {seen.roles['test']} test ({_counts(seen.splits)})"


def _group_line(seen: Overview, settings: MakeLabels) -> str:
    if seen.groups is not None:
        how = ", recovered from the order of the list" if settings.groups == "pseudo_patients" else ""
        return f"patients: {seen.groups}{how}; none is divided between folds"
    return "patients: not known, so cells of one patient may stand on both sides of a fold and scores be optimistic"


def _size_lines(seen: Overview, window_px: int, size_px: int) -> list[str]:
    common = Counter(f"{width}x{height}" for width, height in seen.sizes).most_common(3)
    shown = ", ".join(f"{size} px ({count})" for size, count in common)
    unread = f"; {seen.unread} could not be read" if seen.unread else ""
    lines = [f"sizes: {shown or 'unknown'} of {len(seen.sizes) + seen.unread} images looked at{unread}"]
    sides = sorted(min(size) for size in seen.sizes)
    side = sides[len(sides) // 2] if sides else window_px
    small = f" (most images are smaller: {side} px)" if side < window_px else ""
    lines.append(f"window: {window_px} px around each cell{small}, stored at {size_px} px (crop.crop_cells.window_px)")
    return lines


def describe(seen: Overview, settings: MakeLabels, window_px: int, size_px: int) -> list[str]:
    """Return the lines for a person; the window and the stored size are those of the preset, in pixels."""
    lines = [f"{seen.data}: {KINDS[seen.kind]}", f"{'cells' if seen.boxes else 'images'}: {seen.roles.total()}"]
    lines += seen.boxes
    lines.append(f"classes: {len(seen.classes)} in training: {_counts(seen.classes)}")
    if seen.unlabelled:
        lines.append(f"unlabelled: {seen.unlabelled} training images, which get a label and are not learned from")
    if seen.unknown:
        lines.append(f"other labels: {_counts(seen.unknown)}: not learned from; see index.make_labels.label_aliases")
    groups = [] if seen.boxes else [_group_line(seen, settings)]
    return [*lines, _split_line(seen), *groups, *_size_lines(seen, window_px, size_px)]
