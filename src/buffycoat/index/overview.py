"""What a data set holds, in a few lines, before anything runs: what `buffycoat init` prints."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from buffycoat.data.images import FORMATS
from buffycoat.index.leaks import list_sentences
from buffycoat.index.lists import Kind, kind_of
from buffycoat.index.make_labels import class_list, pseudo_groups, read_opinions
from buffycoat.index.settings import Index, MakeLabels
from buffycoat.index.sources import Listing, read_listing

SAMPLE = 200
"""Images whose sizes are read; all of a large set would take minutes."""
KINDS: dict[Kind, str] = {
    "table": "a table of images",
    "class folders": "one folder of images per class",
    "wbcbench": "WBCBench's folder",
}


@dataclass(frozen=True)
class Overview:
    """What a data set holds. `sizes` are (width, height) in pixels of a sample, `unread` its files without one.

    `doubts` are sentences on what may make scores look better than they are.
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
    doubts: list[str]


def _sizes(listing: Listing) -> tuple[list[tuple[int, int]], int]:
    """Return the sizes of at most SAMPLE images, evenly spread over the list, and how many could not be read."""
    from PIL import Image

    files = listing.frame["file"].tolist()
    chosen = files[:: max(1, -(-len(files) // SAMPLE))]
    sizes, unread = [], 0
    for name in chosen:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(os.path.join(listing.root, name), formats=FORMATS) as header:
                    sizes.append(header.size)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            unread += 1
    return sizes, unread


def look_at(data: str, settings: Index) -> Overview:
    """Return what `data` holds by lists and names, and the sizes of a sample; raises InputError as the index does."""
    kind, listing = kind_of(data), read_listing(data, settings.columns, settings.make_index)
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
    judged = frame.assign(group=None if settings.make_labels.groups == "none" else groups)
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
        doubts=list_sentences(judged, settings.make_labels.patients_in_test),
    )


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
    lines = [f"{seen.data}: {KINDS[seen.kind]}", f"images: {seen.roles.total()}"]
    lines.append(f"classes: {len(seen.classes)} in training: {_counts(seen.classes)}")
    if seen.unlabelled:
        lines.append(f"unlabelled: {seen.unlabelled} training images, which get a label and are not learned from")
    if seen.unknown:
        lines.append(f"other labels: {_counts(seen.unknown)}: not learned from; see index.make_labels.label_aliases")
    lines += [_split_line(seen), _group_line(seen, settings), *(f"careful: {sentence}" for sentence in seen.doubts)]
    return [*lines, *_size_lines(seen, window_px, size_px)]
