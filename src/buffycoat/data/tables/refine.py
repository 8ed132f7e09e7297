"""Labels after the refinement, with the evidence, and those of the simple ways beside it."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.data.tables.schema import IMAGE_ID, Column, Table

REFINED_LABELS = Table(
    name="refined_labels",
    key=("image_id",),
    columns=(
        IMAGE_ID,
        Column("base_label", pa.string(), "most probable class of branch A"),
        Column("suppressed_label", pa.string(), "the same with rescued classes taken out: y0 of Algorithm 1"),
        Column("suppressed_probability", pa.float64(), "its probability: q of Algorithm 1"),
        Column("phase_1", pa.string(), "label after sensitivity boosting alone"),
        Column("phase_2", pa.string(), "label after semantic verification"),
        Column("phase_3", pa.string(), "label after the biological filters"),
        Column("label", pa.string(), "the final label"),
        Column("changed", pa.bool_(), "whether the final label differs from base_label"),
        Column("trace", pa.string(), "JSON: for each candidate class, each phase's value, threshold and verdict"),
        Column("reason", pa.string(), "one sentence that explains a change; empty where nothing changed"),
        Column("near_miss", pa.string(), "the class that one check alone kept from an unchanged label", gaps=True),
        Column("near_miss_reason", pa.string(), "one sentence that tells this check; empty elsewhere"),
    ),
)

ALTERNATIVES = Table(
    name="alternatives",
    key=("image_id", "way"),
    columns=(
        IMAGE_ID,
        Column("way", pa.string(), "name of the way; see docs/method.md, 'Refinement'"),
        Column("label", pa.string(), "its label; a training cell's by what was learned without the cell's fold"),
    ),
)
