"""What a data set holds, in a few lines, before anything runs: what `buffycoat init` prints."""

from __future__ import annotations

import io
import os
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from buffycoat.data.images import FORMATS, ImageProblem
from buffycoat.data.locations import locations_of, read_encoded
from buffycoat.index.boxes import names_left_out, one_class
from buffycoat.index.classes import Reading, fault_of, read_labels
from buffycoat.index.forms import columns_of_boxes
from buffycoat.index.leaks import list_sentences, shared_patients
from buffycoat.index.listings import boxes_in, listing_of
from buffycoat.index.lists import Kind, kind_of
from buffycoat.index.make_folds import fault_of_folds
from buffycoat.index.make_labels import pseudo_groups, read_opinions
from buffycoat.index.settings import Columns, Index, MakeLabels
from buffycoat.index.sources import Listing, doubt_on_layout, read_table
from buffycoat.index.words import GAPS, box_columns, held_column, likely_columns, part_of

SAMPLE = 200
"""Images whose sizes are read; all of a large set would take minutes."""
MANY = 20
"""A column of more values than this is no split, and no more values are shown."""
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

    `groups` are patients that are known, `ungrouped` labelled training images without one. `notes` say what was
    understood; `doubts` what may make scores look better than they are; `fields` says what keeps the cells of one
    patient together, None where images are no fields; `lost` holds the reasons of files that are not there; `fault`
    says why nothing can be trained, empty where it can.
    """

    data: str
    kind: Kind
    roles: Counter[str]
    splits: Counter[str]
    classes: Counter[str]
    unknown: Counter[str]
    unlabelled: int
    left_out: int
    groups: int
    ungrouped: int
    sizes: list[tuple[int, int]]
    unread: int
    fields: str | None = None
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    fault: str = ""


def _sizes(listing: Listing) -> tuple[list[tuple[int, int]], int]:
    """Return the sizes of at most SAMPLE images, evenly spread over the list, and how many could not be read."""
    from PIL import Image

    paths = [os.path.join(listing.root or "", name) for name in listing.frame["file"]]
    known = [place not in listing.lost for place in range(len(paths))]
    places = list(dict.fromkeys(locations_of(listing.frame.assign(path=paths)[known])))
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


def _free_columns(path: Path, columns: Columns) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Return a table, and by what the settings find no column for the columns that may be it."""
    frame = read_table(path)
    names = [str(name) for name in frame.columns]
    wanted = {"image": columns.image, "label": columns.label, "split": columns.split, "group": columns.group or "group"}
    used = {what: held_column(names, name) if name else None for what, name in wanted.items()}
    free = [name for name in names if name not in used.values()]
    likely = {what: likely_columns(free, what) for what, name in used.items() if name is None}
    if "split" in likely and columns.split:
        few = [
            name
            for name in free
            if frame[name].map(type).isin([str, int, bool]).all() and frame[name].nunique() <= MANY
        ]
        known = [name for name in few if {part_of(str(value)) for value in frame[name].unique()} >= {"train", "test"}]
        likely["split"] = known or [name for name in likely["split"] if name in few and frame[name].nunique() > 1]
    return frame, likely


def guess_columns(path: Path, columns: Columns, folds: int) -> dict[str, str]:
    """Return the columns of a table that are most likely meant, by what the settings find none for.

    Each is the only one of a usual name; a split has values that mean training and test, a group as many as folds.
    """
    frame, likely = _free_columns(path, columns)
    found = {what: names[0] for what, names in likely.items() if len(names) == 1}
    if "split" in found and not {part_of(str(value)) for value in frame[found["split"]].unique()} >= {"train", "test"}:
        del found["split"]
    if "group" in found and frame[found["group"]].nunique() < folds:
        del found["group"]
    return found


def _hints(path: Path, kind: Kind, columns: Columns) -> list[str]:
    """Return sentences on columns and folders that look as if they should be used, and are not."""
    if kind != "table":
        doubt = doubt_on_layout(path, columns) if kind == "class folders" else ""
        return [doubt] if doubt else []
    frame, likely = _free_columns(path, columns)
    told = {"split": "a split", "group": "the patient"}
    hints = [
        f"column '{name}' looks like {what} and is not used; set index.columns.{key} to use it"
        for key, what in told.items()
        for name in likely.get(key, [])
    ]
    boxes = box_columns([str(name) for name in frame.columns])
    if boxes and columns_of_boxes(frame.columns) is None:
        hints.append(f"columns {', '.join(boxes)} look like boxes and are not read: an image is taken as one cell")
    return [f"{path}: {hint}" for hint in hints]


def _unscored(answers: Counter[str], reading: Reading) -> list[str]:
    """Return a sentence on labels of test images that are no classes; none without such."""
    strange = Counter(
        {label: count for label, count in answers.items() if reading.class_of(label) not in reading.codes}
    )
    return [f"{strange.total()} test images are of no class and not scored: {_counts(strange)}"] if strange else []


def _all_lost(listing: Listing) -> str:
    """Return why no image can be read, where none of the files is there; empty where one is."""
    if len(listing.lost) < len(listing.frame):
        return ""
    advice = f"; {listing.advice}" if listing.advice else ""
    return f"no image can be read: {len(listing.lost)} missing; {listing.lost[0]}{advice}"


def _groups_of(frame: pd.DataFrame, setting: Literal["given", "pseudo_patients", "none"]) -> pd.Series:
    """Return the patient of each image, None where it is not known or not wanted."""
    if setting == "none":
        return pd.Series([None] * len(frame), frame.index, dtype=object)
    return pseudo_groups(frame) if setting == "pseudo_patients" else frame["group"]


def look_at(data: str, settings: Index) -> Overview:
    """Return what `data` holds by lists and names, and the sizes of a sample; raises InputError as the index does."""
    kind, boxed = kind_of(data), boxes_in(data, settings.columns, settings.make_index)
    others = [] if boxed is None else names_left_out(set(boxed["label"].dropna()), settings.make_labels)
    listing = listing_of(data, settings.columns, settings.make_index, others)
    opinions = read_opinions(Path(data), settings.columns, settings.make_labels)
    frame = listing.frame.merge(opinions.frame, on="image_id", how="left", validate="one_to_one")
    of_training = frame["role"] == "train"
    given = Counter(frame.loc[of_training, "label"].dropna())
    reading = read_labels(kind, settings.make_labels, given)
    left_out = {label for label in given if reading.is_left_out(label)}
    meaning = {label: reading.class_of(label) for label in given if label not in left_out}
    hints = _hints(Path(data), kind, settings.columns)
    hints += _unscored(Counter(frame.loc[~of_training, "label"].dropna()), reading)
    judged = frame.assign(group=_groups_of(frame, settings.make_labels.groups))
    taught = of_training & frame["label"].isin(meaning)
    if settings.make_labels.patients_in_test == "drop":
        taught &= ~judged["group"].isin(shared_patients(judged[taught | ~of_training].assign(status="ok")))
    labels = Counter(meaning[label] for label in frame.loc[taught, "label"])
    known = judged.loc[taught, "group"]
    gaps = known[known.isin([group for group in known.dropna().unique() if group.lower() in GAPS])]
    if len(gaps):
        hints.append(f"{len(gaps)} images of the patient '{gaps.iloc[0]}' count as one; empty cells mean: not known")
    sizes, unread = _sizes(listing)
    largest = max((labels[code] for code in reading.codes), default=0)
    fault = (one_class(boxed, settings.make_labels) if boxed is not None else None) or _all_lost(listing)
    fault = fault or fault_of(reading, labels)
    fault = fault or fault_of_folds(known, largest, settings.make_folds.folds)
    return Overview(
        data=data,
        kind=kind,
        roles=Counter(frame["role"]),
        splits=Counter(map(str, frame["split"].dropna())),
        classes=Counter({code: labels[code] for code in reading.codes}),
        unknown=Counter({label: count for label, count in labels.items() if label not in reading.codes}),
        unlabelled=int(frame.loc[of_training, "label"].isna().sum()),
        left_out=sum(given[label] for label in left_out),
        groups=int(known.nunique()),
        fields=None if boxed is None else _fields_line(listing, settings.make_labels, frame),
        ungrouped=int(known.isna().sum()),
        sizes=sizes,
        unread=unread,
        notes=list(dict.fromkeys([*listing.notes, *opinions.notes, *reading.notes, *hints])),
        doubts=list_sentences(judged, settings.make_labels.patients_in_test),
        lost=list(listing.lost.values()),
        fault=f"{data}: {fault}" if fault else "",
    )


def _fields_line(listing: Listing, settings: MakeLabels, frame: pd.DataFrame) -> str:
    """Return what keeps cells on fields together in folds: patients, slides, or the fields."""
    if settings.groups != "none" and (settings.group_pattern or not frame["group"].isin(listing.frame["field"]).all()):
        return f"slides or patients: {frame['group'].nunique()}; none is divided between folds"
    return "slides: not known; the cells of one field stay together (index.make_labels.group_pattern)"


def _counts(counter: Counter[str]) -> str:
    shown = [f"{name} {count}" for name, count in counter.most_common(MANY)]
    return ", ".join(shown) + (f" and {len(counter) - MANY} more" if len(counter) > MANY else "")


def _split_line(seen: Overview) -> str:
    parts = f" ({_counts(seen.splits)})" if seen.splits else ""
    line = f"split: {seen.roles['train']} training, {seen.roles['test']} test{parts}"
    return line if seen.roles["test"] else f"{line}; training images are scored by folds that have not seen them"


def _group_line(seen: Overview, settings: MakeLabels) -> str:
    if seen.groups:
        how = ", recovered from the order of the list" if settings.groups == "pseudo_patients" else ""
        line = f"patients: {seen.groups}{how}; none is divided between folds"
        if seen.ungrouped:
            line += f"; {seen.ungrouped} labelled training images name none and count as patients of their own"
        return line
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
    lines = [f"{seen.data}: {KINDS[seen.kind]}", f"{'cells' if seen.fields else 'images'}: {seen.roles.total()}"]
    lines.append(f"classes: {len(seen.classes)} in training: {_counts(seen.classes)}")
    if seen.unlabelled:
        lines.append(f"unlabelled: {seen.unlabelled} training images, which get a label and are not learned from")
    if seen.left_out:
        lines.append(f"left out: {seen.left_out} training images, by index.make_labels.label_aliases")
    if seen.unknown:
        lines.append(f"other labels: {_counts(seen.unknown)}: not learned from; see index.make_labels.label_aliases")
    if seen.lost:
        lines.append(f"missing: {len(seen.lost)} of {seen.roles.total()} files; first: {seen.lost[0]}")
    lines += [_split_line(seen), seen.fields or _group_line(seen, settings)]
    lines += [*(f"careful: {sentence}" for sentence in seen.doubts), *_size_lines(seen, window_px, size_px)]
    return [*lines, *(f"note: {note}" for note in seen.notes)]
