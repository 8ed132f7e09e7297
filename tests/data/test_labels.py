from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from buffycoat.core.errors import InputError
from buffycoat.data.labels import class_numbers, embedded_rows, labelled, learned_rows, trainable

IMAGES = pd.DataFrame(
    {
        "image_id": ["d", "a", "b", "c", "e", "f"],
        "role": ["train", "train", "train", "test", "train", "train"],
        "status": ["ok", "ok", "ok", "ok", "missing", "ok"],
        "reason": ["", "", "", "", "no such file", ""],
    }
)
LABELS = pd.DataFrame(
    {
        "image_id": ["a", "b", "c", "d", "e", "f"],
        "label": ["LY", "PC", None, "BA", "LY", None],
        "group": ["p", "p", None, "q", "q", "q"],
        "status": ["ok", "ok", "ok", "ok", "missing", "unlabelled"],
        "reason": ["", "", "", "", "no such file", "a training row without a label"],
    }
)
FOLDS = pd.DataFrame({"image_id": ["a", "b", "d"], "fold": np.array([1, 0, 1], np.int32)})
CODES = ["BA", "LY", "PC"]


def test_classes_are_numbered_in_their_order() -> None:
    assert class_numbers(("LY", "BA")) == {"LY": 0, "BA": 1}


def test_every_image_keeps_its_place_and_both_statuses() -> None:
    frame = labelled(IMAGES, LABELS)
    assert frame["image_id"].tolist() == IMAGES["image_id"].tolist()
    assert frame["status"].tolist() == IMAGES["status"].tolist()
    assert frame["label_status"].tolist() == ["ok", "ok", "ok", "ok", "missing", "unlabelled"]
    assert frame["group"].tolist()[:3] == ["q", "p", "p"]


def test_labels_of_other_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"labels\.parquet.*: 1 rows lost, 0 invented, for instance 'f'"):
        labelled(IMAGES, LABELS.iloc[:-1])


def test_only_sound_labelled_training_images_are_learned_from() -> None:
    assert trainable(IMAGES, LABELS)["image_id"].tolist() == ["d", "a", "b"]
    rows = learned_rows(IMAGES, LABELS, FOLDS, CODES)
    assert rows[["image_id", "fold", "number", "group"]].to_numpy().tolist() == [
        ["d", 1, 0, "q"], ["a", 1, 1, "p"], ["b", 0, 2, "p"],
    ]  # fmt: skip
    assert rows["fold"].dtype == rows["number"].dtype == np.int64


def test_folds_of_other_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"folds\.parquet: 0 rows lost, 1 invented, for instance 'c'"):
        learned_rows(IMAGES, LABELS, pd.concat([FOLDS, pd.DataFrame({"image_id": ["c"], "fold": [0]})]), CODES)


def test_an_embedding_stands_beside_every_image_with_pixels() -> None:
    embeddings = pd.DataFrame({"image_id": ["a", "b", "c", "d", "f"], "embedding": list(range(5))})
    rows = embedded_rows(IMAGES, LABELS, FOLDS, embeddings, CODES)
    assert rows["image_id"].tolist() == ["d", "a", "b", "c", "f"] and rows["embedding"].tolist() == [3, 0, 1, 2, 4]
    assert rows["number"].tolist()[:3] == [0, 1, 2] and rows[["label", "number", "fold"]].iloc[3:].isna().all(axis=None)
    with pytest.raises(InputError, match="embeddings"):
        embedded_rows(IMAGES, LABELS, FOLDS, embeddings.iloc[1:], CODES)
    with pytest.raises(InputError, match="fewer than two folds"):
        embedded_rows(IMAGES, LABELS, FOLDS.assign(fold=0), embeddings, CODES)
