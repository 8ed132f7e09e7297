"""What is scored: the images with known labels, part by part, with each phase's label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from buffycoat.data.labels import class_numbers

PHASES = {
    "branch_a": "base_label",
    "branch_b": "head_label",
    "suppressed": "suppressed_label",
    "phase_1": "phase_1",
    "phase_2": "phase_2",
    "phase_3": "label",
}
"""Each phase and the column that holds its labels; phase_3 is the final one."""
STEPS = (("suppressed", "branch_a"), ("phase_1", "suppressed"), ("phase_2", "phase_1"), ("phase_3", "phase_2"),
         ("phase_3", "branch_a"))  # fmt: skip
"""Pairs of phases whose difference is reported; the last is the whole refinement."""


@dataclass(frozen=True)
class Part:
    """The images of one part with known labels: class numbers, one column per phase, and clusters."""

    name: str
    true: np.ndarray
    predicted: dict[str, np.ndarray]
    clusters: np.ndarray
    units: str
    """What a cluster is: 'patients', 'images', or 'patients where known, otherwise images'."""


def clusters_of(rows: pd.DataFrame) -> tuple[np.ndarray, str]:
    """Return a cluster number per row (from 0) and what a cluster is.

    An image without a group is a cluster of its own; those that have one still stay together.
    """
    known = rows["group"].notna()
    # Marked, so that a patient and an image of the same name are two clusters.
    names = ("patient " + rows["group"].astype("str")).where(known, "image " + rows["image_id"].astype("str"))
    units = "patients" if known.all() else "patients where known, otherwise images" if known.any() else "images"
    return pd.factorize(names)[0].astype(np.int64), units


def part_of(name: str, rows: pd.DataFrame, codes: list[str]) -> Part:
    """Return the part made of labelled rows (columns true, group, and one per phase)."""
    number = class_numbers(codes)
    predicted = {phase: rows[column].map(number).to_numpy(np.int64) for phase, column in PHASES.items()}
    return Part(name, rows["true"].map(number).to_numpy(np.int64), predicted, *clusters_of(rows))


def joined_rows(
    images: pd.DataFrame, test_labels: pd.DataFrame, refined: pd.DataFrame, head: pd.DataFrame, codes: list[str]
) -> pd.DataFrame:
    """Return every predicted image with its group, its known label where there is one, and each phase's label.

    `images` are those of `data.labels.labelled`, `refined` are the refined labels.
    """
    head_label = pd.Series(np.array(codes, object)[head[codes].to_numpy().argmax(axis=1)], index=head["image_id"])
    # Without the traces, which are most of the table: they would be copied with every join.
    phases = [column for column in dict.fromkeys(PHASES.values()) if column in refined]
    frame = refined[["image_id", *phases]].merge(
        images[["image_id", "group", "role"]], on="image_id", validate="one_to_one"
    )
    frame["head_label"] = frame["image_id"].map(head_label)
    answers = test_labels.set_index("image_id")["label"]
    return frame.assign(answer=frame["image_id"].map(answers))


def rows_of_parts(frame: pd.DataFrame, images: pd.DataFrame, folds: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows, with their true label, of 'out_of_fold' (all folds pooled) and of 'test' where any is known."""
    held = frame.merge(folds, on="image_id", validate="one_to_one")
    held = held.assign(true=held["image_id"].map(images.set_index("image_id")["label"]))
    tested = frame[frame["answer"].notna() & (frame["role"] == "test")]
    found = {"out_of_fold": held}
    if not tested.empty:
        found["test"] = tested.assign(true=tested["answer"])
    return found
