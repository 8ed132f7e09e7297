"""Images, labels and folds joined: which image is of which class and patient, and which fold holds it out."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.data.tables.index import decodable
from buffycoat.data.tables.schema import require_same_keys


def class_numbers(codes: Sequence[str]) -> dict[str, int]:
    """Return the number of each class, from 0 in the order of `codes`."""
    return {code: number for number, code in enumerate(codes)}


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
