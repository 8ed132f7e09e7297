"""The recipes of branch A, and what is done after them, side by side: a row per score."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

ABLATION = Table(
    name="ablation",
    key=("recipe", "variant", "part", "class", "metric"),
    columns=(
        Column("recipe", pa.string(), "the long-tail recipe, or what is done before or after the main one"),
        Column(
            "variant",
            pa.string(),
            "'single_folds' (each model by itself, one view), 'one_view' or 'all_views' (folds together), 'restored'"
            " (the main recipe on cells restored otherwise), or 'after'",
        ),
        Column("part", pa.string(), "'out_of_fold' (pooled, but for single folds) or 'test'"),
        Column("class", pa.string(), "class code, or 'all'"),
        Column("metric", pa.string(), "all: macro_f1, balanced_accuracy, accuracy; per class: f1"),
        Column("value", pa.float64(), "0..1; the mean over folds where they are single"),
        Column("sd", pa.float64(), "standard deviation over single folds; null elsewhere", gaps=True),
        Column("low", pa.float64(), "lower end of the interval; null for single folds", gaps=True),
        Column("high", pa.float64(), "upper end of the interval; null for single folds", gaps=True),
        Column("difference", pa.float64(), "value less that of the main recipe; null per class and fold", gaps=True),
        Column("difference_low", pa.float64(), "lower end of its interval, from the same resamples", gaps=True),
        Column("difference_high", pa.float64(), "upper end of its interval, from the same resamples", gaps=True),
        Column("support", pa.int32(), "images of the class in this part"),
    ),
)
