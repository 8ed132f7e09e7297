"""Images, labels and folds joined: which image is of which class and patient, and which fold holds it out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.data.tables.index import decodable
from buffycoat.data.tables.schema import require_same_keys


def class_numbers(codes: Sequence[str]) -> dict[str, int]:
    """Return the number of each class, from 0 in the order of `codes`."""
    return {code: number for number, code in enumerate(codes)}


def numbers_of(labels: pd.Series, codes: list[str]) -> npt.NDArray[np.int64]:
    """Return class numbers (n,) int64 of class codes."""
    return np.asarray(labels.map(class_numbers(codes)), np.int64)


def labelled(images: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Return every row of images, in order, with its label, group, label_status and label_reason.

    Raises InputError where the two tables are not of the same images.
    """
    require_same_keys(labels["image_id"], images["image_id"], "labels.parquet, made of other images")
    told = labels.rename(columns={"status": "label_status", "reason": "label_reason"})
    return images.merge(told, on="image_id", how="left", validate="one_to_one")


def trainable(images: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that may be learned from: role 'train' and a label whose status is 'ok'."""
    frame = labelled(images, labels)
    return frame[(frame["role"] == "train") & (frame["label_status"] == "ok")].reset_index(drop=True)


def learned_rows(images: pd.DataFrame, labels: pd.DataFrame, folds: pd.DataFrame, codes: Sequence[str]) -> pd.DataFrame:
    """Return the trainable rows, in order, with fold and number (of the class), both int64.

    Raises InputError where the folds are not exactly those of these rows.
    """
    rows = trainable(images, labels)
    require_same_keys(folds["image_id"], rows["image_id"], "folds.parquet")
    rows = rows.merge(folds, on="image_id", validate="one_to_one")
    numbers = rows["label"].map(class_numbers(codes))
    return rows.assign(fold=rows["fold"].astype("int64"), number=numbers.astype("int64"))


def embedded_rows(
    images: pd.DataFrame, labels: pd.DataFrame, folds: pd.DataFrame, embeddings: pd.DataFrame, codes: Sequence[str]
) -> pd.DataFrame:
    """Return a row per decodable image: image_id, label, number (of its class), fold, embedding.

    Label, number and fold are gaps where the image may not be learned from. Raises InputError where the tables do not
    belong together, or a fold would leave no other to learn from.
    """
    seen = decodable(images)[["image_id"]]
    rows = learned_rows(images, labels, folds, codes)[["image_id", "label", "number", "fold"]]
    require_same_keys(embeddings["image_id"], seen["image_id"], "embeddings.parquet")
    if rows["fold"].nunique() < 2:
        raise InputError(
            "folds.parquet: fewer than two folds hold labelled images, so none can be judged by the others"
        )
    frame = seen.merge(rows, on="image_id", how="left")
    return frame.merge(embeddings, on="image_id", validate="one_to_one")


def clusters_of(rows: pd.DataFrame) -> tuple[npt.NDArray[np.int64], str]:
    """Return a cluster number per row (from 0) and what a cluster is.

    An image without a group is a cluster of its own; those that have one still stay together.
    """
    known = rows["group"].notna()
    # Marked, so that a patient and an image of the same name are two clusters.
    names = ("patient " + rows["group"].astype("str")).where(known, "image " + rows["image_id"].astype("str"))
    units = "patients" if known.all() else "patients where known, otherwise images" if known.any() else "images"
    return pd.factorize(names)[0].astype(np.int64), units


def rows_of_parts(frame: pd.DataFrame, images: pd.DataFrame, folds: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows, with their true label, of 'out_of_fold' (all folds pooled) and of 'test' where any is known."""
    held = frame.merge(folds, on="image_id", validate="one_to_one")
    held = held.assign(true=held["image_id"].map(images.set_index("image_id")["label"]))
    tested = frame[frame["answer"].notna() & (frame["role"] == "test")]
    found = {"out_of_fold": held}
    if not tested.empty:
        found["test"] = tested.assign(true=tested["answer"])
    return found
