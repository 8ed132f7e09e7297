"""What branch B gives: embeddings of cells and prompts, the course of the head's training, and baselines."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.data.tables.schema import IMAGE_ID, Column, Table

EMBEDDINGS = Table(
    name="embeddings",
    key=("image_id",),
    columns=(
        IMAGE_ID,
        Column("embedding", pa.list_(pa.float32()), "unit-length vector of the encoder"),
    ),
)

PROMPTS = Table(
    name="prompts",
    key=("code",),
    columns=(
        Column("code", pa.string(), "class code"),
        Column("prompt", pa.string(), "the text that was embedded"),
        Column("embedding", pa.list_(pa.float32()), "unit-length vector of the encoder, in the space of the images'"),
    ),
)

HEAD_HISTORY = Table(
    name="head_history",
    key=("fold", "epoch"),
    columns=(
        Column("fold", pa.int32(), "the fold held out; -1 for a head on everything"),
        Column("epoch", pa.int32(), "epoch, from 1"),
        Column("train_loss", pa.float64(), "mean training loss of the epoch"),
    ),
)

BASELINES = Table(
    name="baselines",
    key=("baseline", "class", "metric"),
    columns=(
        Column(
            "baseline",
            pa.string(),
            "'knn' (neighbours of other folds alone) or 'zero_shot' (nearest class name; absent without a text side)",
        ),
        Column("class", pa.string(), "class code, or 'all'"),
        Column("metric", pa.string(), "per class: precision, recall, f1; all: macro_f1, balanced_accuracy, accuracy"),
        Column("value", pa.float64(), "0..1; a class that is never predicted or absent counts 0"),
        Column("support", pa.int32(), "labelled training images of the class"),
    ),
)
