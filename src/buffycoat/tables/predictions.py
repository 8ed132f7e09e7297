"""The result: exactly one row per image of the data set."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

PREDICTIONS = Table(
    name="predictions",
    key=("image_id",),
    columns=(
        Column("image_id", pa.string(), "the image's name, unique in the data set"),
        Column("path", pa.string(), "the file"),
        Column("role", pa.string(), "'train' or 'test'"),
        Column("given_label", pa.string(), "the expert's label of a training image", gaps=True),
        Column("status", pa.string(), "as in the table of images"),
        Column("reason", pa.string(), "why the image has no prediction, or why its label was changed"),
        Column("label", pa.string(), "predicted class; null where the file has no pixels", gaps=True),
        Column("base_label", pa.string(), "class before refinement", gaps=True),
        Column("probability", pa.float64(), "branch A's probability of the predicted class", gaps=True),
        Column("source", pa.string(), "'out_of_fold' or 'fold_mean'", gaps=True),
        Column("changed", pa.bool_(), "whether refinement changed the label"),
        Column("cell_found", pa.bool_(), "whether a white cell was found", gaps=True),
        Column("noisy", pa.bool_(), "whether the crop was flagged as noisy", gaps=True),
        Column("restored", pa.bool_(), "whether the restored pixels were used", gaps=True),
    ),
)
