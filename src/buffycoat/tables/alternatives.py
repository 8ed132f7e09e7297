"""What other ways than the rules, and each phase of the rules, make of every image."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

ALTERNATIVES = Table(
    name="alternatives",
    key=("image_id", "way"),
    columns=(
        Column("image_id", pa.string(), "the image's name, unique in the data set"),
        Column("way", pa.string(), "name of the way; see docs/method.md, 'Refinement'"),
        Column("label", pa.string(), "its label; a training cell's by what was learned without the cell's fold"),
    ),
)
