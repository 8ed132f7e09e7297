"""Step `score_robustness`: branch A's scores against the severity of each degradation, as table, curves and page."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.core.settings import Statistics
from buffycoat.core.steps import run
from buffycoat.data.drawn import note_on
from buffycoat.data.labels import clusters_of, numbers_of
from buffycoat.data.pages import figure_address, write_page
from buffycoat.data.tables.classify import DEGRADED
from buffycoat.data.tables.index import CLASSES, LABELS, class_codes
from buffycoat.data.tables.report import ROBUSTNESS
from buffycoat.data.tables.schema import require_same_keys
from buffycoat.report.draw_figures import robustness_curves
from buffycoat.stats.scores import (
    COMPARED_SCORES,
    CONFIDENCE,
    DEFINITIONS,
    cluster_matrices,
    confusion,
    interval,
    overall_scores,
    resample,
    resampled_scores,
)

log = logging.getLogger("buffycoat")
AS_IT_IS = ("none", 0.0)


def labels_by_way(table: pd.DataFrame) -> dict[tuple[str, float], pd.Series]:
    """Return the label by image_id of each (kind, severity), crops as they are first.

    Raises InputError where one holds other images than the others.
    """
    found = {
        (str(kind), float(str(severity))): rows.set_index("image_id")["label"]
        for (kind, severity), rows in table.groupby(["kind", "severity"], sort=False)
    }
    if AS_IT_IS not in found:
        raise InputError("no fold holds the crops as they are; run predict_degraded again")
    plain = found[AS_IT_IS].index.to_series()
    for (kind, severity), labels in found.items():
        require_same_keys(labels.index.to_series(), plain, f"degraded crops, {kind} at severity {severity:g}")
    return found


def score_degraded(
    rows: pd.DataFrame, labels: dict[tuple[str, float], pd.Series], codes: list[str], seed: int,
    statistics: Statistics,
) -> pd.DataFrame:  # fmt: skip
    """Return the table of scores: of each way with interval, and its paired difference from crops as they are.

    `rows` have image_id, group and label (the expert's).
    """
    true, (clusters, _), count = numbers_of(rows["label"], codes), clusters_of(rows), len(codes)
    present = np.bincount(true, minlength=count) > 0
    guesses = [numbers_of(given.loc[rows["image_id"]], codes) for given in labels.values()]
    per_cluster = [cluster_matrices(true, guessed, clusters, count) for guessed in guesses]
    drawn = [resampled_scores(one, present) for one in resample(per_cluster, statistics.resamples, seed, "degraded")]
    values = [overall_scores(confusion(true, guessed, count)) for guessed in guesses]
    found = []
    for (kind, severity), value, sample in zip(labels, values, drawn, strict=True):
        for metric in COMPARED_SCORES:
            low, high = interval(sample[metric])
            least, most = interval(sample[metric] - drawn[0][metric])
            found.append({
                "kind": kind, "severity": severity, "metric": metric, "value": float(value[metric]),
                "low": low, "high": high, "difference": float(value[metric] - values[0][metric]),
                "difference_low": least, "difference_high": most, "images": len(rows),
            })  # fmt: skip
    return pd.DataFrame(found)


def lines_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a line of text per way: its scores with intervals, and the difference in macro-F1."""
    lines = []
    for (kind, severity), rows in table.groupby(["kind", "severity"], sort=False):
        scores = rows.set_index("metric")
        macro = scores.loc["macro_f1"]
        texts = [
            f"{row.value:.4f} [{row.low:.3f}, {row.high:.3f}]" for row in scores.loc[list(COMPARED_SCORES)].itertuples()
        ]
        loss = f"{macro['difference']:+.4f} [{macro['difference_low']:+.3f}, {macro['difference_high']:+.3f}]"
        plain = (kind, severity) == AS_IT_IS
        worse = not plain and macro["difference_high"] < 0
        name = "as they are" if plain else str(kind).replace("_", " ")
        lines.append({"kind": name, "severity": "" if plain else f"{severity:g}", "scores": texts,
                      "difference": "" if plain else loss, "worse": worse})  # fmt: skip
    return lines


def score_robustness(
    *, labels: Path, classes: Path, degraded: list[Path], robustness: Path, page: Path, seed: int, data: str,
    statistics: Statistics,
) -> None:  # fmt: skip
    """Score the held-out images of all folds together, as they are and degraded; write the table and the page."""
    codes = class_codes(CLASSES.read(classes))
    table = pd.concat([DEGRADED.read(path) for path in degraded], ignore_index=True)
    if table.empty:
        raise InputError("no training image has a clean crop: there is nothing to degrade")
    predicted = labels_by_way(table)
    frame = LABELS.read(labels)
    rows = frame.loc[frame["image_id"].isin(predicted[AS_IT_IS].index), ["image_id", "group", "label"]]
    scored = score_degraded(rows, predicted, codes, seed, statistics)
    ROBUSTNESS.write(scored, robustness)
    content = {
        "note": note_on(data),
        "images": len(rows),
        "units": clusters_of(rows)[1],
        "resamples": statistics.resamples,
        "percent": f"{100 * CONFIDENCE:.0f}",
        "curves": figure_address(robustness_curves(scored)),
        "lines": lines_of(scored),
        "score_names": [name.replace("_", " ").replace("f1", "F1") for name in COMPARED_SCORES],
        "definitions": [DEFINITIONS[name] for name in COMPARED_SCORES],
    }
    write_page("robustness.html.j2", content, page)
    log.info("robustness: %d images, %d degradations: %s", len(rows), len(predicted) - 1, page)


if __name__ == "__main__":
    run(score_robustness)
