"""What branch A gives: the course of its training, logits, probabilities, and labels of degraded crops."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from buffycoat.core.errors import InputError
from buffycoat.data.tables.schema import IMAGE_ID, Column, Table

TRAINING_HISTORY = Table(
    name="training_history",
    key=("fold", "epoch"),
    columns=(
        Column("fold", pa.int32(), "the fold held out"),
        Column("epoch", pa.int32(), "epoch, from 1"),
        Column("train_loss", pa.float64(), "mean training loss of the epoch; null where nothing is trained", gaps=True),
        Column("held_out_loss", pa.float64(), "cross-entropy on the held-out fold, one view"),
        Column("held_out_macro_f1", pa.float64(), "macro-F1 on the held-out fold, one view, over all classes"),
        Column("images_per_s", pa.float64(), "training images per second; null where nothing is trained", gaps=True),
        Column("kept", pa.bool_(), "whether this epoch's weights were kept"),
    ),
)

LOGITS = Table(
    name="logits",
    key=("image_id", "view"),
    columns=(
        IMAGE_ID,
        Column("view", pa.int32(), "element of D4 that was applied, 0..7; 0 is the identity"),
        Column("fold", pa.int32(), "the fold whose model made the row"),
        Column("out_of_fold", pa.bool_(), "whether the image is a training image that this fold held out"),
    ),
    classes=pa.float32(),
)

PROBABILITIES = Table(
    name="probabilities",
    key=("image_id",),
    columns=(
        IMAGE_ID,
        Column(
            "source",
            pa.string(),
            "'out_of_fold' (training image, the model that did not see it) or 'fold_mean' (mean over folds)",
        ),
    ),
    classes=pa.float64(),
)

DEGRADED = Table(
    name="degraded",
    key=("image_id", "kind", "severity"),
    columns=(
        IMAGE_ID,
        Column("fold", pa.int32(), "the fold that held the image out, whose model judges it"),
        Column("kind", pa.string(), "the degradation; 'none' for the crop as it is"),
        Column("severity", pa.float64(), "0 to 4; 0 for the crop as it is"),
        Column("label", pa.string(), "most probable class in one view"),
    ),
)


def read_probabilities(path: Path, codes: list[str]) -> pd.DataFrame:
    """Read a table of probabilities; raises InputError where its classes are not `codes`."""
    frame = PROBABILITIES.read(path)
    columns = PROBABILITIES.class_columns([str(name) for name in frame.columns])
    if sorted(columns) != sorted(codes):
        raise InputError(f"{path}: its classes are {columns}, those of the data set {codes}; delete it and run again")
    return frame
