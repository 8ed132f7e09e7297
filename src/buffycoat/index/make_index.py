"""Step `make_index`: every row of the user's data set, checked, with a status."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.core.files import write_json
from buffycoat.core.steps import run
from buffycoat.data.cell_types import CELL_TYPES, name_of
from buffycoat.data.tables.classify import LOGITS, PROBABILITIES
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, TEST_LABELS, trainable
from buffycoat.data.tables.report import PREDICTIONS
from buffycoat.index.checking import check_files, mark_duplicates, mark_labels, summary_of
from buffycoat.index.pseudo_patients import split_into_runs
from buffycoat.index.settings import MakeIndex
from buffycoat.index.sources import Kind, Listing, kind_of, read_listing

log = logging.getLogger("buffycoat")


RESERVED = {column.name for table in (IMAGES, FOLDS, LOGITS, PROBABILITIES, PREDICTIONS) for column in table.columns}
"""Names that no class may have: tables with a column per class have or meet these columns."""
RESERVED |= {"all", "why"}


def class_list(kind: Kind, settings: MakeIndex, labels: set[str]) -> list[str]:
    """Return the class codes in their order; raises InputError where one cannot be the name of a column."""
    if settings.classes != "auto":
        codes = list(settings.classes)
    elif kind == "wbcbench":
        codes = list(CELL_TYPES)
    else:
        # Labels that share nothing with the thirteen codes are a nomenclature of their own.
        codes = [code for code in CELL_TYPES if code in labels] or sorted(labels)
        if codes and codes[0] not in CELL_TYPES:
            log.info("no label is one of the codes of WBCBench: the labels themselves are the classes")
    for code in codes:
        if code in RESERVED or not code.strip() or not code.isprintable() or set("{}$") & set(code):
            raise InputError(
                f"class {code!r}: a class cannot be called so, because it names a column in tables and is shown in"
                " figures; map it to another code in index.make_index.label_aliases, or rename it"
            )
    return codes


def pseudo_groups(frame: pd.DataFrame) -> pd.Series:
    """Return a group per row, recovered from the order of the labelled training rows of each part; null elsewhere."""
    groups = pd.Series([None] * len(frame), index=frame.index, dtype=object)
    labelled = frame[(frame["role"] == "train") & frame["label"].notna()]
    for part, rows in labelled.groupby("split", sort=False, dropna=False):
        ordered = rows.sort_values("image_id")
        runs = split_into_runs(ordered["label"].tolist())
        groups.loc[ordered.index] = [f"{part}-{number:04d}" for number in runs]
    return groups


def checked_images(kind: Kind, listing: Listing, settings: MakeIndex, threads: int) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of images in the order of the source, and the class codes."""
    frame = listing.frame.copy()
    alias = settings.label_aliases
    frame["label"] = [alias.get(label, label) if label is not None else None for label in frame["label"]]
    codes = class_list(kind, settings, set(frame["label"].dropna()))
    names = frame["file"].tolist()
    findings = check_files(names, listing.root, settings.max_pixels, settings.max_megabytes * 1e6, threads)
    for field in ("status", "reason", "width", "height", "sha256"):
        frame[field] = pd.Series([getattr(finding, field) for finding in findings], dtype=object)
    for size in ("width", "height"):
        frame[size] = frame[size].astype("Int32")
    frame["path"] = [Path(os.path.join(listing.root, name.replace("\x00", "?"))).as_posix() for name in names]
    if settings.groups == "pseudo_patients":
        frame["group"] = pseudo_groups(frame)
    elif settings.groups == "none":
        frame["group"] = None
    return mark_duplicates(mark_labels(frame, codes)), codes


def class_table(frame: pd.DataFrame, codes: list[str]) -> pd.DataFrame:
    """Return the table of classes, with the images and groups that each has to learn from."""
    usable = trainable(frame)
    known = usable["group"].notna().all() and not usable.empty
    of_class = [usable[usable["label"] == code] for code in codes]
    groups = [rows["group"].nunique() if known else None for rows in of_class]
    return pd.DataFrame(
        {
            "code": codes,
            "name": [name_of(code) for code in codes],
            "position": range(len(codes)),
            "images": [len(rows) for rows in of_class],
            "groups": pd.array(groups, dtype="Int32"),
        }
    )


def answer_table(frame: pd.DataFrame, listing: Listing, settings: MakeIndex, codes: list[str]) -> pd.DataFrame:
    """Return the known labels of test images that are among the classes."""
    tested = set(frame.loc[frame["role"] == "test", "image_id"])
    alias = settings.label_aliases
    known = {i: alias.get(label, label) for i, label in listing.test_labels.items() if i in tested}
    strange = {i: label for i, label in known.items() if label not in codes}
    if strange:
        example = sorted(strange.items())[0]
        log.warning("%d test labels are not classes, e.g. %s of %s: not scored", len(strange), example[1], example[0])
    kept = {i: label for i, label in known.items() if label in codes}
    return pd.DataFrame({"image_id": list(kept), "label": list(kept.values())}, dtype="str")


def log_summary(summary: dict[str, object]) -> None:
    """Log what was found: a line per status and per warning."""
    log.info("%s images: %s", summary["images"], summary["statuses"])
    examples = summary["examples"]
    assert isinstance(examples, dict)
    for status, rows in examples.items():
        log.warning("%s, for instance: %s", status, "; ".join(f"{row['image_id']} ({row['reason']})" for row in rows))
    warnings = summary["warnings"]
    assert isinstance(warnings, list)
    for warning in warnings:
        log.warning("%s", warning)


def make_index(
    *,
    data: Path,
    sources: list[Path],
    images: Path,
    classes: Path,
    test_labels: Path,
    summary: Path,
    threads: int = 1,
    settings: MakeIndex,
) -> None:
    """Check every image once and write the tables of images, classes and test labels.

    `data` is what the user named; `sources` are the files and folders in it that Snakemake watches.
    """
    absent = [str(source) for source in sources if not source.exists()]
    if absent:
        raise InputError(f"{absent[0]}: no such file; correct `data`, or put it there")
    listing = read_listing(str(data), settings)
    frame, codes = checked_images(kind_of(str(data)), listing, settings, threads)
    if trainable(frame).empty:
        raise InputError(f"{data}: no image can be learned from: {summary_of(frame, codes)['statuses']}")
    found = summary_of(frame, codes)
    log_summary(found)
    IMAGES.write(frame[[column.name for column in IMAGES.columns]], images)
    CLASSES.write(class_table(frame, codes), classes)
    TEST_LABELS.write(answer_table(frame, listing, settings, codes), test_labels)
    write_json(found, summary)


if __name__ == "__main__":
    run(make_index)
