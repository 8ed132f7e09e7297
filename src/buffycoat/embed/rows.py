"""The rows that heads and baselines work on: every decodable image with its embedding, label and fold."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.data.tables.embed import EMBEDDINGS
from buffycoat.data.tables.index import FOLDS, IMAGES, decodable, trainable
from buffycoat.data.tables.schema import require_same_keys


def joined_rows(images: Path, folds: Path, embeddings: Path, codes: list[str]) -> pd.DataFrame:
    """Return a row per decodable image: image_id, label, number (of its class), fold, embedding.

    Label, number and fold are gaps where the image may not be learned from. Raises InputError where the tables do not
    belong together, or a fold would leave no other to learn from.
    """
    table = IMAGES.read(images)
    frame = decodable(table)[["image_id"]]
    kept = trainable(table)[["image_id", "label"]]
    divided = FOLDS.read(folds)
    require_same_keys(divided["image_id"], kept["image_id"], str(folds))
    stored = EMBEDDINGS.read(embeddings)
    require_same_keys(stored["image_id"], frame["image_id"], str(embeddings))
    labels = kept.merge(divided, on="image_id", validate="one_to_one")
    if labels["fold"].nunique() < 2:
        raise InputError(f"{folds}: fewer than two folds hold labelled images, so none can be judged by the others")
    frame = frame.merge(labels, on="image_id", how="left").merge(stored, on="image_id", validate="one_to_one")
    frame["number"] = frame["label"].map({code: number for number, code in enumerate(codes)})
    return frame
