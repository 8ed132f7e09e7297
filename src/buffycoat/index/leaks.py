"""What makes scores look better than they are: patients and near copies on both sides, groups that hold one image."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import pandas as pd

EXAMPLES = 12
"""Pairs of near copies, and names of patients, that are kept for the report."""
BETWEEN = {
    "training and test": "a training and a test image",
    "labels": "training images with different labels",
    "patients": "training images of different patients",
    "training": "training images, which may stand on both sides of a fold",
    "test": "test images",
}
"""What the members of a set of near copies are, the most harmful first."""


def number(count: int, noun: str) -> str:
    """Return a number of things: `1 set`, `2 sets`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shared_patients(frame: pd.DataFrame) -> set[str]:
    """Return the groups that have both training images to learn from and test images with pixels."""
    sound = frame[frame["group"].notna()]
    teaching = sound[(sound["role"] == "train") & (sound["status"] == "ok")]
    tested = sound[(sound["role"] == "test") & (sound["status"] == "ok")]
    return set(teaching["group"]) & set(tested["group"])


def patient_report(frame: pd.DataFrame, setting: Literal["keep", "drop"]) -> dict[str, Any]:
    """Return how many images of how many patients are on both sides, and what is done about it."""
    shared = shared_patients(frame)
    rows = frame[frame["group"].isin(shared) & (frame["status"] == "ok")]
    return {
        "patients": len(shared),
        "training": int((rows["role"] == "train").sum()),
        "test": int((rows["role"] == "test").sum()),
        "examples": sorted(shared)[:EXAMPLES],
        "dropped": setting == "drop",
    }


def mark_patients_in_test(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame without training images of patients who have test images: their status is `patient_in_test`."""
    shared = shared_patients(frame)
    left = frame["group"].isin(shared) & (frame["role"] == "train") & (frame["status"] == "ok")
    frame = frame.copy()
    frame.loc[left, "status"] = "patient_in_test"
    frame.loc[left, "reason"] = [f"patient {group} has test images too" for group in frame.loc[left, "group"]]
    return frame


def alike_sets(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the sets of near copies among the images that are learned from or tested, in order of the list."""
    sound = frame[frame["status"] == "ok"]
    first = sound["near_copy_of"].where(sound["near_copy_of"].notna(), sound["image_id"])
    several = first.duplicated(keep=False)
    return [rows for _, rows in sound[several].groupby(first[several], sort=False)]


def _between(rows: pd.DataFrame) -> str:
    """Return which kind of BETWEEN a set of near copies is."""
    teaching, tested = rows[rows["role"] == "train"], rows[rows["role"] == "test"]
    if len(teaching) and len(tested):
        return "training and test"
    if teaching["label"].nunique() > 1:
        return "labels"
    groups = set(teaching["group"].dropna())
    if len(groups) > 1:
        return "patients"
    return "training" if len(teaching) > 1 else "test"


def _pair(rows: pd.DataFrame, kind: str) -> dict[str, Any]:
    """Return two members of a set that show what is wrong with it."""
    column = {"training and test": "role", "labels": "label", "patients": "group"}.get(kind)
    one = rows.iloc[0]
    others = rows.iloc[1:] if column is None else rows[rows[column].notna() & (rows[column] != one[column])]
    two = others.iloc[0] if len(others) else rows.iloc[1]
    return {
        "between": kind,
        "images": len(rows),
        "first": str(one["image_id"]),
        "second": str(two["image_id"]),
        "first_label": one["label"] if isinstance(one["label"], str) else None,
        "second_label": two["label"] if isinstance(two["label"], str) else None,
    }


def near_copy_report(frame: pd.DataFrame) -> dict[str, Any]:
    """Return how many images are near copies, between what, and pairs to look at, the most harmful first."""
    found = [(_between(rows), rows) for rows in alike_sets(frame)]
    # Copies of one patient in training stay in one fold: they do no harm.
    harmless = [kind == "training" and rows["group"].notna().all() for kind, rows in found]
    ranked = sorted(found, key=lambda pair: list(BETWEEN).index(pair[0]))
    return {
        "sets": len(found),
        "images": sum(len(rows) for _, rows in found),
        "of_one_patient": int(sum(harmless)),
        "between": dict(Counter(kind for (kind, _), fine in zip(found, harmless, strict=True) if not fine)),
        "pairs": [_pair(rows, kind) for kind, rows in ranked[:EXAMPLES]],
    }


def group_sentences(frame: pd.DataFrame) -> list[str]:
    """Return a sentence where groups of the training images hold hardly more than one image each."""
    groups = frame.loc[(frame["role"] == "train") & (frame["status"] == "ok"), "group"].dropna()
    sizes = groups.value_counts()
    if len(groups) < 3 or len(sizes) < 0.95 * len(groups):
        return []
    every = (
        "every group holds one image" if len(sizes) == len(groups) else f"{len(sizes)} groups hold {len(groups)} images"
    )
    boxed = "left" in frame.columns and frame["left"].notna().any()
    remedy = (
        "find the slide in the field's name by index.make_labels.group_pattern"
        if boxed
        else "name the column of patients in index.columns.group"
    )
    return [f"{every}: grouping does nothing, and cells of one patient may stand on both sides of a fold; {remedy}"]


def leak_sentences(patients: dict[str, Any], copies: dict[str, Any]) -> list[str]:
    """Return sentences on what may make the scores look better than they are."""
    said = []
    if patients["patients"]:
        sides = f"{number(patients['patients'], 'patient')} with both training and test images"
        named = f"{patients['training']} and {patients['test']} images, for instance of {patients['examples'][0]}"
        said.append(
            f"{sides} ({named}): "
            + (
                "their training images are left out (index.make_labels.patients_in_test: drop)"
                if patients["dropped"]
                else "test scores will look better than they are; index.make_labels.patients_in_test: drop leaves their"
                " training images out"
            )
        )
    for kind in (kind for kind in BETWEEN if kind in copies["between"]):
        pair = next((pair for pair in copies["pairs"] if pair["between"] == kind), None)
        example = f", for instance {pair['first']} and {pair['second']}" if pair else ""
        sets = number(copies["between"][kind], "set")
        said.append(f"near copies: {sets} of {BETWEEN[kind]}{example}; the report shows them")
    return said


def list_sentences(frame: pd.DataFrame, setting: Literal["keep", "drop"]) -> list[str]:
    """Return sentences on what the lists alone tell of leaks, before any image is read: role, label and group."""
    rows = frame[(frame["role"] == "test") | frame["label"].notna()].assign(status="ok")
    return [*leak_sentences(patient_report(rows, setting), {"between": {}, "pairs": []}), *group_sentences(rows)]


def doubts_about(frame: pd.DataFrame, patients: dict[str, Any]) -> dict[str, Any]:
    """Return what may make the scores look better than they are, and what was not plain about pixels, in sentences.

    `frame` are the judged images with role, status, label, group and the columns of the table of pixels; `patients` is
    their `patient_report` from before any was left out.
    """
    copies = near_copy_report(frame)
    said = [*leak_sentences(patients, copies), *group_sentences(frame), *pixel_sentences(frame)]
    return {"patients_in_test": patients, "near_copies": copies, "doubts": said}


def pixel_sentences(frame: pd.DataFrame) -> list[str]:
    """Return sentences on images whose samples were no plain 8-bit RGB, and on grey ones among coloured ones."""
    sound = frame[frame["grey"].notna()]
    # Shares and colours differ between images that are treated alike.
    kinds = sound["note"].str.replace(r" \([^)]*\)|(?<=:) \d+ %", "", regex=True).str.split("; ").explode()
    said = [f"{number(count, 'image')}: {kind}" for kind, count in kinds[kinds != ""].value_counts().items()]
    grey = int(sound["grey"].astype(bool).sum())
    if 0 < grey < len(sound):
        example = sound.loc[sound["grey"].astype(bool), "image_id"].iloc[0]
        said.append(f"{grey} of {len(sound)} images are grey, the others coloured, for instance {example}")
    return said
