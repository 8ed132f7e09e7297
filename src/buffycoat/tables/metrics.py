"""Every score, with its interval."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

METRICS = Table(
    name="metrics",
    key=(
        "phase",
        "part",
        "class",
        "metric",
    ),
    columns=(
        Column("phase", pa.string(), "'branch_a', 'branch_b', 'suppressed', 'phase_1', 'phase_2', 'phase_3' (final)"),
        Column("part", pa.string(), "'out_of_fold' (pooled), 'fold_0'.. or 'test'"),
        Column("class", pa.string(), "class code, or 'all'"),
        Column(
            "metric",
            pa.string(),
            "per class: precision, recall, f1, specificity; all: macro_f1, balanced_accuracy, macro_precision, ...",
        ),
        Column("value", pa.float64(), "0..1; null where undefined", gaps=True),
        Column("low", pa.float64(), "lower end of the 95 % interval", gaps=True),
        Column("high", pa.float64(), "upper end of the 95 % interval", gaps=True),
        Column("support", pa.int32(), "images of the class in this part"),
    ),
)
