"""The classes of this data set, in their order: the columns of every table of logits and probabilities."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from buffycoat.tables.schema import Column, Table

CLASSES = Table(
    name="classes",
    key=("code",),
    columns=(
        Column("code", pa.string(), "class code"),
        Column("name", pa.string(), "full name"),
        Column("position", pa.int32(), "order of the class in every table, from 0"),
        Column("images", pa.int32(), "trainable images of the class"),
        Column("groups", pa.int32(), "groups (patients) that hold it; null where groups are unknown", gaps=True),
    ),
)


def class_codes(classes: pd.DataFrame) -> list[str]:
    """Return the class codes in their order."""
    return [str(code) for code in classes.sort_values("position")["code"]]
