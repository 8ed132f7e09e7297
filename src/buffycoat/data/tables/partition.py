"""Image quality of each crop: scores, and what counts as noisy, blurred or badly lit."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.data.tables.schema import IMAGE_ID, Column, Table

QUALITY = (
    Column("noise_score", pa.float32(), "mean |g - median3x3(g)| over the cell, grey levels 0..255"),
    Column("surroundings_noise", pa.float32(), "the same over everything but the cell, grey levels 0..255"),
    Column("blur_score", pa.float32(), "unitless, 0 (sharp) .. 1 (blurred)"),
    Column("background_level", pa.float32(), "grey level of clear glass, 0..255"),
    Column("background_gradient", pa.float32(), "its change from side to side, grey levels 0..722"),
    Column("background_red", pa.float32(), "its red less its green, grey levels -255..255"),
    Column("background_blue", pa.float32(), "its blue less its green, grey levels -255..255"),
)
"""What is measured of a crop."""

NOISE_SCORES = Table(
    name="noise_scores",
    key=("image_id",),
    columns=(
        IMAGE_ID,
        *QUALITY,
    ),
)

NOISE = Table(
    name="noise",
    key=("image_id",),
    columns=(
        IMAGE_ID,
        *QUALITY,
        Column("light_deviation", pa.float32(), "distance of the light from the usual, robust SDs, 0 and up"),
        Column("noisy", pa.bool_(), "whether the crop goes to restoration"),
        Column("blurred", pa.bool_(), "whether the blur score reaches its threshold"),
        Column("badly_lit", pa.bool_(), "whether the light's deviation reaches its threshold"),
    ),
)
