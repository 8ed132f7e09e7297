"""What a fold's model makes of the images it held out once they are degraded: a row per image, kind and severity."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

DEGRADED = Table(
    name="degraded",
    key=("image_id", "kind", "severity"),
    columns=(
        Column("image_id", pa.string(), "the image's name, unique in the data set"),
        Column("fold", pa.int32(), "the fold that held the image out, whose model judges it"),
        Column("kind", pa.string(), "the degradation; 'none' for the crop as it is"),
        Column("severity", pa.float64(), "0 to 4; 0 for the crop as it is"),
        Column("label", pa.string(), "most probable class in one view"),
    ),
)
