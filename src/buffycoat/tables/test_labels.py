"""Labels of test images, where they are known: read by the report alone, never by a step that learns."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

TEST_LABELS = Table(
    name="test_labels",
    key=("image_id",),
    columns=(
        Column("image_id", pa.string(), "the image's name, unique in the data set"),
        Column("label", pa.string(), "class code of a test image"),
    ),
)
