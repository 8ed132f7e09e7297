"""Probability of each class per image; a row sums to 1."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

PROBABILITIES = Table(
    name="probabilities",
    key=("image_id",),
    columns=(
        Column("image_id", pa.string(), "the image's name, unique in the data set"),
        Column(
            "source",
            pa.string(),
            "'out_of_fold' (training image, the model that did not see it) or 'fold_mean' (mean over folds)",
        ),
    ),
    classes=pa.float64(),
)
