"""Image quality of each crop, with the verdict."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

NOISE = Table(
    name="noise",
    key=("image_id",),
    columns=(
        Column("image_id", pa.string(), "the image's name, unique in the data set"),
        Column("noise_score", pa.float32(), "mean |g - median3x3(g)| over the cell, grey levels 0..255"),
        Column("blur_score", pa.float32(), "unitless, 0 (sharp) .. 1 (blurred)"),
        Column("illumination", pa.float32(), "mean grey level of the cell's surroundings, 0..255"),
        Column("noisy", pa.bool_(), "whether the crop goes to restoration"),
    ),
)
