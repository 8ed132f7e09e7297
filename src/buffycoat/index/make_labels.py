"""Step `make_labels`: what the experts say of every image: label, patient, and whether it may be learned from."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.core.files import write_json
from buffycoat.core.steps import run
from buffycoat.data.cell_types import name_of
from buffycoat.data.tables.index import CLASSES, IMAGES, LABEL_STATUSES, LABELS, PIXELS, TEST_LABELS
from buffycoat.data.tables.schema import require_same_keys
from buffycoat.index.boxes import cell_keys, names_left_out, slides_of, white_cells
from buffycoat.index.classes import Reading, fault_of, read_labels
from buffycoat.index.leaks import doubts_about, mark_patients_in_test, patient_report
from buffycoat.index.listings import boxes_in
from buffycoat.index.lists import WBCBENCH_PARTS, Kind, kind_of
from buffycoat.index.settings import Columns, MakeIndex, MakeLabels
from buffycoat.index.shards import shard_rows
from buffycoat.index.sources import (
    SETTINGS,
    case_notes,
    column_of,
    folder_rows,
    own_groups,
    read_csv,
    read_table,
    table_ids,
)

log = logging.getLogger("buffycoat")
AGAIN = "the lists name other images than images.parquet; run once with --forcerun make_index"
TOLD_BY_PIXELS = ("digest", "grey", "note", "near_copy_of")
"""Columns of the table of pixels, which are joined to the images."""
OUT_OF_ORDER_COST = 1.0
"""Cost of a label that stands before its predecessor in the alphabet inside one patient."""
NEW_PATIENT_COST = 8.0
"""Cost of starting a new patient. Both costs gave 223 groups for the 222 training patients of WBCBench."""


@dataclass(frozen=True)
class Opinions:
    """What the lists say of the images: a frame with image_id, label and group (text; missing is None), in order.

    `answers`: labels from the file of answers, by name of the test image; `notes`: what was understood, for a person;
    `left_out`: how many boxes on fields are of other things than white cells, by name.
    """

    frame: pd.DataFrame
    answers: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)


def read_opinions(path: Path, columns: Columns, settings: MakeLabels) -> Opinions:
    """Return what the data say of their images; raises InputError where a column is missing."""
    kind = kind_of(str(path))
    if kind == "wbcbench":
        return Opinions(_wbcbench_labels(path), _read_answers(settings))
    if kind == "class folders":
        return Opinions(folder_rows(path, columns.pattern)[["image_id", "label", "group"]])
    if kind in ("shards", "wbcbench_hub"):
        return Opinions(shard_rows(str(path), kind == "wbcbench_hub", columns)[["image_id", "label", "group"]])
    # Which of them are for testing is the other step's to say.
    boxed = boxes_in(str(path), columns, MakeIndex(test_values=()))
    if boxed is not None:
        return _box_labels(boxed, path, settings)
    frame = read_table(path)
    ids = table_ids(frame, columns, path)
    labels = column_of(frame, columns.label, path, SETTINGS["label"])
    groups = own_groups(frame, columns.group, path)
    notes = case_notes(frame, [columns.label, columns.group or "group"], path)
    return Opinions(pd.DataFrame({"image_id": ids, "label": labels, "group": groups}, dtype=object), notes=notes)


def _box_labels(boxed: pd.DataFrame, path: Path, settings: MakeLabels) -> Opinions:
    """Return labels and slides of the boxes of white cells, and how many others there are."""
    others = names_left_out(set(boxed["label"].dropna()), settings)
    cells, line = white_cells(boxed, others, str(path))
    groups, told = slides_of(cells, settings.group_pattern)
    counts = {name: int((boxed["label"] == name).sum()) for name in others}
    frame = cells[["image_id", "label"]].assign(group=groups).astype(object)
    return Opinions(frame, notes=[line, *told], left_out=counts)


def _wbcbench_labels(root: Path) -> pd.DataFrame:
    parts = []
    for name in WBCBENCH_PARTS:
        path = root / name
        frame = read_csv(path)
        ids, labels = column_of(frame, "ID", path), column_of(frame, "labels", path)
        parts.append(pd.DataFrame({"image_id": ids, "label": labels, "group": None}, dtype=object))
    # Of the test images only the file of answers knows the labels.
    parts[-1]["label"] = None
    return pd.concat(parts, ignore_index=True)


def _read_answers(settings: MakeLabels) -> dict[str, str]:
    if not settings.test_labels:
        return {}
    path = Path(settings.test_labels)
    frame = read_csv(path)
    pairs = zip(column_of(frame, "ID", path), column_of(frame, "labels", path), strict=True)
    return {str(image_id): label for image_id, label in pairs if label is not None}


def joined(images: pd.DataFrame, opinions: pd.DataFrame) -> pd.DataFrame:
    """Return the images in their order with label and group; raises InputError where the lists name other images."""
    require_same_keys(opinions["image_id"], images["image_id"], AGAIN)
    known = images.astype(
        dict.fromkeys(("image_id", "role", "split", "sha256", "status", "reason", *TOLD_BY_PIXELS), object)
    )
    known = known.where(known.notna(), None)
    return known.merge(opinions, on="image_id", how="left", validate="one_to_one")


def judged_labels(
    images: pd.DataFrame, opinions: Opinions, kind: Kind, settings: MakeLabels
) -> tuple[pd.DataFrame, dict[str, str], Reading]:
    """Return the images with label, group, status and reason, the answers of test images, and what labels mean."""
    frame = joined(images, opinions.frame)
    tested = (frame["role"] == "test") & frame["label"].notna()
    answers = {**dict(zip(frame.loc[tested, "image_id"], frame.loc[tested, "label"], strict=True)), **opinions.answers}
    frame.loc[tested, "label"] = None
    given = Counter(frame["label"].dropna())
    reading = read_labels(kind, settings, given)
    left_out = frame["label"].isin([label for label in given if reading.is_left_out(label)])
    meaning = {label: reading.class_of(label) for label in given}
    frame["label"] = [meaning[label] if label is not None else None for label in frame["label"]]
    if settings.groups == "pseudo_patients":
        frame["group"] = pseudo_groups(frame)
    elif settings.groups == "none":
        frame["group"] = None
    return mark_duplicates(mark_labels(frame, reading, left_out)), answers, reading


def split_into_runs(labels: list[str]) -> list[int]:
    """Return the group of each label, from 0, so that the total cost of the division is least.

    Inside a patient the classes are meant to run in alphabetical order. The dynamic programme keeps, for every class
    that could be the current highest of the running patient, the least cost of a division so far: O(n K) for n labels
    of K classes. A label below the current highest costs OUT_OF_ORDER_COST, a new patient NEW_PATIENT_COST.
    """
    if not labels:
        return []
    ranks = np.unique(np.array(labels), return_inverse=True)[1]
    kinds, n = int(ranks.max()) + 1, len(labels)
    cost = np.full(kinds, np.inf)
    cost[ranks[0]] = 0.0
    came_from = np.zeros((n, kinds), np.int32)
    started = np.zeros((n, kinds), bool)
    for i in range(1, n):
        cost, came_from[i], started[i] = _advance(cost, int(ranks[i]))
    return _walk_back(cost, came_from, started)


def pseudo_groups(frame: pd.DataFrame) -> pd.Series:
    """Return a group per row, recovered from the order of the labelled training rows of each part; null elsewhere.

    WBCBench lists patient by patient, and by class inside a patient. Used only to keep one patient's cells in one fold;
    neither the groups nor the order are ever shown to a model, and test images are never touched.
    """
    groups = pd.Series([None] * len(frame), index=frame.index, dtype=object)
    labelled = frame[(frame["role"] == "train") & frame["label"].notna()]
    for part, rows in labelled.groupby("split", sort=False, dropna=False):
        ordered = rows.sort_values("image_id")
        runs = split_into_runs(ordered["label"].tolist())
        groups.loc[ordered.index] = [f"{part}-{number:04d}" for number in runs]
    return groups


def _advance(cost: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the costs after one more label, the state each came from, and whether a patient began."""
    kinds = len(cost)
    # Below or at the label's rank: the label becomes the highest. Above it: the label is out of order.
    new = np.where(np.arange(kinds) > rank, cost + OUT_OF_ORDER_COST, np.inf)
    source = np.arange(kinds, dtype=np.int32)
    begun = np.zeros(kinds, bool)
    best_below = int(np.argmin(cost[: rank + 1]))
    best = int(np.argmin(cost))
    if cost[best] + NEW_PATIENT_COST < cost[best_below]:
        new[rank], source[rank], begun[rank] = cost[best] + NEW_PATIENT_COST, best, True
    else:
        new[rank], source[rank] = cost[best_below], best_below
    return new, source, begun


def _walk_back(cost: np.ndarray, came_from: np.ndarray, started: np.ndarray) -> list[int]:
    state = int(np.argmin(cost))
    starts = np.zeros(len(came_from), bool)
    for i in range(len(came_from) - 1, 0, -1):
        starts[i] = started[i, state]
        state = int(came_from[i, state])
    return [int(group) for group in np.cumsum(starts)]


def learned(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that may be learned from."""
    return frame[(frame["role"] == "train") & (frame["status"] == "ok")].reset_index(drop=True)


def mark_labels(frame: pd.DataFrame, reading: Reading, left_out: pd.Series) -> pd.DataFrame:
    """Return the frame with training rows marked `unlabelled`, `left_out` or `unknown_class`; files go first."""
    frame = frame.copy()
    sound = (frame["status"] == "ok") & (frame["role"] == "train")
    empty = sound & frame["label"].isna()
    frame.loc[empty, ["status", "reason"]] = ["unlabelled", "a training row without a label; predicted, not learned"]
    aside = sound & left_out
    frame.loc[aside, "status"] = "left_out"
    frame.loc[aside, "reason"] = [
        f"label {label!r} is left out by index.make_labels.label_aliases" for label in frame.loc[aside, "label"]
    ]
    strange = sound & ~frame["label"].isin(reading.codes) & ~empty & ~aside
    near = {label: reading.nearest(label) for label in frame.loc[strange, "label"].unique()}
    frame.loc[strange, "status"] = "unknown_class"
    frame.loc[strange, "reason"] = [
        f"label {label!r} is not one of {', '.join(reading.codes)}"
        f"{f'; did you mean {near[label]}?' if near[label] else ''}; see index.make_labels.classes and label_aliases"
        for label in frame.loc[strange, "label"]
    ]
    return frame


def mark_duplicates(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with repeated images and cells marked, so that none teaches twice or stands on both sides.

    Two images are one where their pixels are the same, in whatever format they are kept; two cells on fields, where
    besides their boxes nearly coincide. Among training rows of one
    image: with one label the first stays `ok` and the others are `duplicate`; with several labels all are
    `conflicting_duplicate`. A training row whose image is also a test image is `duplicate_of_test`; the test row stays
    as it is, for it must get its answer.
    """
    frame = frame.assign(cell=cell_keys(frame, "digest"))
    teaches = (frame["role"] == "train") & (frame["status"] == "ok")
    tests = frame[(frame["role"] == "test") & frame["cell"].notna()].drop_duplicates("cell")
    files, names = (dict(zip(tests["cell"], tests[column], strict=True)) for column in ("sha256", "image_id"))
    leaked = teaches & frame["cell"].isin(tests["cell"])
    frame.loc[leaked, "status"] = "duplicate_of_test"
    frame.loc[leaked, "reason"] = [
        f"{_same(files[cell] == sha256)} the test image {names[cell]}"
        for cell, sha256 in frame.loc[leaked, ["cell", "sha256"]].itertuples(index=False, name=None)
    ]
    rest = frame[teaches & ~leaked]
    for _, same in rest[rest.duplicated("cell", keep=False)].groupby("cell", sort=False):
        if same["label"].nunique() > 1:
            frame.loc[same.index, "status"] = "conflicting_duplicate"
            one = "one file" if same["sha256"].nunique() == 1 else "the same pixels in several files,"
            frame.loc[same.index, "reason"] = f"{one} with the labels {', '.join(sorted(set(same['label'])))}"
        else:
            frame.loc[same.index[1:], "status"] = "duplicate"
            first = same.iloc[0]
            frame.loc[same.index[1:], "reason"] = [
                f"{_same(sha256 == first['sha256'])} {first['image_id']}" for sha256 in same["sha256"].iloc[1:]
            ]
    return frame.drop(columns="cell")


def _same(file: bool) -> str:
    return "the same file as" if file else "the same pixels, in another file, as"


def warnings_of(frame: pd.DataFrame, codes: list[str]) -> list[str]:
    """Return sentences on what will hurt later: classes with one image or one group, and none at all."""
    usable = learned(frame)
    said = []
    for code in codes:
        of_class = usable[usable["label"] == code]
        if len(of_class) == 0:
            said.append(f"class {code} has no training image: it can never be predicted, and counts 0 in macro-F1")
        elif len(of_class) == 1:
            said.append(f"class {code} has one training image: no fold both learns and tests it")
        elif of_class["group"].notna().all() and of_class["group"].nunique() == 1:
            said.append(f"class {code} comes from one group only: no fold both learns and tests it")
    return said


def summary_of(frame: pd.DataFrame, codes: list[str], examples: int = 3) -> dict[str, object]:
    """Return counts per status, per class and per role, the first examples of each fault, and warnings."""
    counts = {status: int((frame["status"] == status).sum()) for status in LABEL_STATUSES}
    usable = learned(frame)
    return {
        "images": len(frame),
        "roles": {role: int((frame["role"] == role).sum()) for role in ("train", "test")},
        "statuses": {status: count for status, count in counts.items() if count},
        "trainable": len(usable),
        "groups": None if usable["group"].isna().any() or usable.empty else int(usable["group"].nunique()),
        "classes": {code: int((usable["label"] == code).sum()) for code in codes},
        "examples": {
            status: [
                {"image_id": row.image_id, "reason": row.reason}
                for row in frame[frame["status"] == status].head(examples).itertuples()
            ]
            for status, count in counts.items()
            if count and status != "ok"
        },
        "warnings": warnings_of(frame, codes),
    }


def class_table(frame: pd.DataFrame, codes: list[str]) -> pd.DataFrame:
    """Return the table of classes, with the images and groups that each has to learn from."""
    usable = learned(frame)
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


def answer_table(frame: pd.DataFrame, answers: dict[str, str], reading: Reading) -> pd.DataFrame:
    """Return the known labels of test images that are among the classes."""
    tested = set(frame.loc[frame["role"] == "test", "image_id"])
    meaning = {label: reading.class_of(label) for label in set(answers.values())}
    known = {i: meaning[label] for i, label in answers.items() if i in tested}
    strange = {i: label for i, label in known.items() if label not in reading.codes}
    if strange:
        example = sorted(strange.items())[0]
        log.warning("%d test labels are not classes, e.g. %s of %s: not scored", len(strange), example[1], example[0])
    kept = {i: label for i, label in known.items() if label in reading.codes}
    return pd.DataFrame({"image_id": list(kept), "label": list(kept.values())}, dtype="str")


def counted(statuses: object) -> str:
    """Return counts by status as text."""
    assert isinstance(statuses, dict)
    return ", ".join(f"{count} {status}" for status, count in statuses.items())


def log_summary(summary: dict[str, object]) -> None:
    """Log what was found: a line per status and per warning."""
    log.info("%s images: %s", summary["images"], counted(summary["statuses"]))
    examples = summary["examples"]
    assert isinstance(examples, dict)
    for status, rows in examples.items():
        log.warning("%s, for instance: %s", status, "; ".join(f"{row['image_id']} ({row['reason']})" for row in rows))
    for key in ("warnings", "doubts"):
        warnings = summary[key]
        assert isinstance(warnings, list)
        for warning in warnings:
            log.warning("%s", warning)


def make_labels(
    *, data: Path, images: Path, pixels: Path, labels: Path, classes: Path, test_labels: Path, summary: Path,
    columns: Columns, settings: MakeLabels,
) -> None:  # fmt: skip
    """Write the tables of labels, classes and test labels, and a summary; a fault is a status with a reason.

    `data` is what the user named; `columns` are those of its table.
    """
    opinions = read_opinions(data, columns, settings)
    image_rows = IMAGES.read(images).merge(PIXELS.read(pixels), on="image_id", validate="one_to_one")
    frame, answers, reading = judged_labels(image_rows, opinions, kind_of(str(data)), settings)
    for note in [*opinions.notes, *reading.notes]:
        log.info("%s", note)
    patients = patient_report(frame, settings.patients_in_test)
    if settings.patients_in_test == "drop":
        frame = mark_patients_in_test(frame)
    doubts = doubts_about(frame, patients)
    found = {**summary_of(frame, reading.codes), **doubts, "left_out": opinions.left_out}
    log_summary(found)
    taught = frame[(frame["role"] == "train") & frame["status"].isin(("ok", "unknown_class"))]
    if fault := fault_of(reading, Counter(taught["label"])):
        raise InputError(f"{data}: {fault} ({counted(found['statuses'])})")
    LABELS.write(frame[[column.name for column in LABELS.columns]], labels)
    CLASSES.write(class_table(frame, reading.codes), classes)
    TEST_LABELS.write(answer_table(frame, answers, reading), test_labels)
    write_json(found, summary)


if __name__ == "__main__":
    run(make_labels)
