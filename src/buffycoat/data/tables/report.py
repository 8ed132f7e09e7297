"""What is reported: scores, confusions, predictions, the ablation, and robustness."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.data.tables.schema import IMAGE_ID, Column, Table

METRICS = Table(
    name="metrics",
    key=("phase", "part", "class", "metric"),
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

CONFUSION = Table(
    name="confusion",
    key=("phase", "part", "true", "predicted"),
    columns=(
        Column("phase", pa.string(), "as in the table of metrics"),
        Column("part", pa.string(), "'out_of_fold' or 'test'"),
        Column("true", pa.string(), "class code given by the expert"),
        Column("predicted", pa.string(), "class code predicted"),
        Column("images", pa.int32(), "how many"),
    ),
)

PREDICTIONS = Table(
    name="predictions",
    key=("image_id",),
    columns=(
        IMAGE_ID,
        Column("path", pa.string(), "the file"),
        Column("role", pa.string(), "'train' or 'test'"),
        Column("given_label", pa.string(), "the expert's label of a training image", gaps=True),
        Column("status", pa.string(), "as in the table of labels"),
        Column("reason", pa.string(), "why the image has no prediction, or why its label was changed"),
        Column("label", pa.string(), "predicted class; null where the file has no pixels", gaps=True),
        Column("base_label", pa.string(), "class before refinement", gaps=True),
        Column("probability", pa.float64(), "branch A's probability of the predicted class", gaps=True),
        Column("source", pa.string(), "'out_of_fold' or 'fold_mean'", gaps=True),
        Column("changed", pa.bool_(), "whether refinement changed the label"),
        Column("cell_found", pa.bool_(), "whether a white cell was found", gaps=True),
        Column("noisy", pa.bool_(), "whether the crop was flagged as noisy", gaps=True),
        Column("restored", pa.bool_(), "whether the restored pixels were used", gaps=True),
    ),
)

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
