"""Scores of branch A against the severity of each degradation, out of fold."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

ROBUSTNESS = Table(
    name="robustness",
    key=("kind", "severity", "metric"),
    columns=(
        Column("kind", pa.string(), "the degradation; 'none' for crops as they are"),
        Column("severity", pa.float64(), "0 to 4; 0 for crops as they are"),
        Column("metric", pa.string(), "macro_f1, balanced_accuracy or accuracy"),
        Column("value", pa.float64(), "0..1, pooled over folds, one view"),
        Column("low", pa.float64(), "lower end of the interval"),
        Column("high", pa.float64(), "upper end of the interval"),
        Column("difference", pa.float64(), "value less that of the crops as they are"),
        Column("difference_low", pa.float64(), "lower end of its interval, from the same resamples"),
        Column("difference_high", pa.float64(), "upper end of its interval, from the same resamples"),
        Column("images", pa.int32(), "images judged: training images whose crops are not noisy"),
    ),
)
