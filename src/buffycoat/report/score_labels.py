"""Step `score_labels`: every score of every phase, with its interval."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from buffycoat.files import write_json
from buffycoat.report.bootstrap import (
    class_intervals,
    cluster_matrices,
    interval,
    resample,
    resampled_scores,
    score_intervals,
)
from buffycoat.report.scores import OVERALL, Values, calibration_error, class_scores, confusion, overall_scores
from buffycoat.report.settings import ScoreLabels
from buffycoat.steps import run
from buffycoat.tables.classes import CLASSES, class_codes
from buffycoat.tables.confusion import CONFUSION
from buffycoat.tables.folds import FOLDS
from buffycoat.tables.images import IMAGES
from buffycoat.tables.labels import LABELS
from buffycoat.tables.metrics import METRICS
from buffycoat.tables.probabilities import PROBABILITIES
from buffycoat.tables.test_labels import TEST_LABELS

log = logging.getLogger("buffycoat")
PHASES = {
    "branch_a": "base_label",
    "branch_b": "head_label",
    "suppressed": "suppressed_label",
    "phase_1": "phase_1",
    "phase_2": "phase_2",
    "phase_3": "label",
}
"""Each phase and the column that holds its labels; phase_3 is the final one."""
STEPS = (("suppressed", "branch_a"), ("phase_1", "suppressed"), ("phase_2", "phase_1"), ("phase_3", "phase_2"),
         ("phase_3", "branch_a"))  # fmt: skip
"""Pairs of phases whose difference is reported."""


@dataclass(frozen=True)
class Part:
    """The images of one part with known labels: class numbers, one column per phase, and clusters."""

    name: str
    true: np.ndarray
    predicted: dict[str, np.ndarray]
    clusters: np.ndarray
    clustered: bool
    """Whether clusters are patients; otherwise every image is one."""


def part_of(name: str, rows: pd.DataFrame, codes: list[str]) -> Part:
    """Return the part made of labelled rows (columns true, group, and one per phase)."""
    number = {code: place for place, code in enumerate(codes)}
    known = bool(rows["group"].notna().all()) and len(rows) > 0
    clusters = pd.factorize(rows["group"] if known else rows["image_id"])[0]
    predicted = {phase: rows[column].map(number).to_numpy(np.int64) for phase, column in PHASES.items()}
    return Part(name, rows["true"].map(number).to_numpy(np.int64), predicted, clusters.astype(np.int64), known)


def score_part(
    part: Part, codes: list[str], seed: int, settings: ScoreLabels
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the metric rows of a part with intervals, and the paired differences between phases."""
    count = len(codes)
    present = np.bincount(part.true, minlength=count) > 0
    matrices = [cluster_matrices(part.true, guessed, part.clusters, count) for guessed in part.predicted.values()]
    drawn = dict(zip(part.predicted, resample(matrices, settings.resamples, seed, part.name), strict=True))
    rows: list[dict[str, Any]] = []
    for phase, guessed in part.predicted.items():
        matrix = confusion(part.true, guessed, count)
        rows += _overall_rows(phase, part.name, matrix, score_intervals(drawn[phase], present, settings.confidence))
        rows += _class_rows(phase, part.name, matrix, codes, class_intervals(drawn[phase], settings.confidence))
    gains = {}
    for later, earlier in STEPS:
        gains[f"{later} - {earlier}"] = _difference(part, drawn, later, earlier, present, count, settings)
    return rows, gains


def _difference(
    part: Part,
    drawn: dict[str, Values],
    later: str,
    earlier: str,
    present: np.ndarray,
    count: int,
    settings: ScoreLabels,
) -> dict[str, float]:
    value = [
        float(overall_scores(confusion(part.true, part.predicted[phase], count))["macro_f1"])
        for phase in (later, earlier)
    ]
    resampled = [resampled_scores(drawn[phase], present)["macro_f1"] for phase in (later, earlier)]
    low, high = interval(resampled[0] - resampled[1], settings.confidence)
    return {"macro_f1": value[0] - value[1], "low": low, "high": high}


def _overall_rows(
    phase: str, part: str, matrix: Values, intervals: dict[str, tuple[float, float]]
) -> list[dict[str, Any]]:
    scores = overall_scores(matrix)
    return [
        _row(phase, part, "all", name, float(scores[name]), intervals.get(name), int(matrix.sum())) for name in OVERALL
    ]


def _class_rows(
    phase: str, part: str, matrix: Values, codes: list[str], intervals: dict[str, list[tuple[float, float]]]
) -> list[dict[str, Any]]:
    support = matrix.sum(axis=1)
    return [
        _row(
            phase,
            part,
            code,
            name,
            float(values[k]),
            intervals[name][k] if name in intervals else None,
            int(support[k]),
        )
        for name, values in class_scores(matrix).items()
        for k, code in enumerate(codes)
    ]


def _row(
    phase: str, part: str, code: str, metric: str, value: float, bounds: tuple[float, float] | None, support: int
) -> dict[str, Any]:
    low, high = bounds if bounds is not None else (None, None)
    return {"phase": phase, "part": part, "class": code, "metric": metric, "value": value, "low": low, "high": high,
            "support": support}  # fmt: skip


def fold_rows(rows: pd.DataFrame, codes: list[str]) -> list[dict[str, Any]]:
    """Return the overall scores of each fold, without intervals."""
    found = []
    for fold, held in rows.groupby("fold"):
        part = part_of(f"fold_{int(str(fold))}", held, codes)
        for phase, guessed in part.predicted.items():
            found += _overall_rows(phase, part.name, confusion(part.true, guessed, len(codes)), {})
    return found


def confusion_rows(part: Part, codes: list[str]) -> pd.DataFrame:
    """Return the part's confusion matrices as rows."""
    frames = []
    for phase, guessed in part.predicted.items():
        matrix = confusion(part.true, guessed, len(codes)).astype(int)
        frames.append(
            pd.DataFrame(
                {
                    "phase": phase,
                    "part": part.name,
                    "true": np.repeat(np.array(codes, object), len(codes)),
                    "predicted": np.tile(np.array(codes, object), len(codes)),
                    "images": matrix.ravel(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def headline(metrics: pd.DataFrame) -> dict[str, Any]:
    """Return macro-F1 before and after refinement, with intervals, of each part that has them."""
    chosen = metrics[(metrics["class"] == "all") & (metrics["metric"] == "macro_f1") & metrics["low"].notna()]
    found: dict[str, Any] = {}
    for phase, name in (("branch_a", "before_refinement"), ("phase_3", "after_refinement")):
        for row in chosen[chosen["phase"] == phase].itertuples():
            entry = {"macro_f1": row.value, "low": row.low, "high": row.high, "images": row.support}
            found.setdefault(str(row.part), {})[name] = entry
    return found


def joined_rows(
    images: pd.DataFrame, test_labels: pd.DataFrame, labels: pd.DataFrame, head: pd.DataFrame, codes: list[str]
) -> pd.DataFrame:
    """Return every predicted image with its group, its known label where there is one, and each phase's label."""
    head_label = pd.Series(np.array(codes, object)[head[codes].to_numpy().argmax(axis=1)], index=head["image_id"])
    frame = labels.merge(images[["image_id", "group", "role"]], on="image_id", validate="one_to_one")
    frame["head_label"] = frame["image_id"].map(head_label)
    answers = test_labels.set_index("image_id")["label"]
    return frame.assign(answer=frame["image_id"].map(answers))


def parts_of(
    frame: pd.DataFrame, images: pd.DataFrame, folds: pd.DataFrame, codes: list[str]
) -> tuple[list[Part], pd.DataFrame]:
    """Return the pooled out-of-fold part, the test part where labels are known, and the out-of-fold rows."""
    held = frame.merge(folds, on="image_id", validate="one_to_one")
    held = held.assign(true=held["image_id"].map(images.set_index("image_id")["label"]))
    tested = frame[frame["answer"].notna() & (frame["role"] == "test")]
    parts = [part_of("out_of_fold", held, codes)]
    if not tested.empty:
        parts.append(part_of("test", tested.assign(true=tested["answer"]), codes))
    return parts, held


def calibration_of(parts: list[Part], rows: dict[str, pd.DataFrame], codes: list[str], bins: int) -> dict[str, Any]:
    """Return the calibration error of branch A and its bins, per part."""
    found = {}
    for part in parts:
        error, table = calibration_error(rows[part.name][codes].to_numpy(np.float64), part.true, bins)
        found[part.name] = {"expected_calibration_error": error, "bins": table}
    return found


def score_labels(
    *, images: Path, test_labels: Path, classes: Path, folds: Path, probabilities: Path, head_probabilities: Path,
    labels: Path, metrics: Path, confusions: Path, summary: Path, seed: int, settings: ScoreLabels,
) -> None:  # fmt: skip
    """Score every phase on the pooled out-of-fold images, on each fold, and on the test images whose label is known."""
    codes = class_codes(CLASSES.read(classes))
    image_rows, fold_table = IMAGES.read(images), FOLDS.read(folds)
    branch_a = PROBABILITIES.read(probabilities)
    head = PROBABILITIES.read(head_probabilities)
    frame = joined_rows(image_rows, TEST_LABELS.read(test_labels), LABELS.read(labels), head, codes)
    parts, held = parts_of(frame, image_rows, fold_table, codes)
    rows, gains, absent = fold_rows(held, codes), {}, {}
    for part in parts:
        scored, gains[part.name] = score_part(part, codes, seed, settings)
        rows += scored
        absent[part.name] = [code for k, code in enumerate(codes) if not (part.true == k).any()]
    table = pd.DataFrame(rows)
    METRICS.write(table, metrics)
    CONFUSION.write(pd.concat([confusion_rows(part, codes) for part in parts], ignore_index=True), confusions)
    chances = branch_a.set_index("image_id")
    by_part = {"out_of_fold": chances.loc[held["image_id"]]}
    tested = frame[frame["answer"].notna() & (frame["role"] == "test")]
    by_part["test"] = chances.loc[tested["image_id"]]
    write_json(
        {
            "headline": headline(table),
            "gains": gains,
            "absent_classes": absent,
            "clusters": {part.name: "patients" if part.clustered else "images" for part in parts},
            "resamples": settings.resamples,
            "confidence": settings.confidence,
            "calibration": calibration_of(parts, by_part, codes, settings.calibration_bins),
            "in_sample_head": bool((head["source"] == "in_sample").any()),
            "definition": "macro-F1: mean F1 over all classes of the data set; a class absent from a part counts 0",
        },
        summary,
    )
    for name, entry in headline(table).items():
        log.info(
            "%s: macro-F1 %.4f before refinement, %.4f after",
            name, entry["before_refinement"]["macro_f1"], entry["after_refinement"]["macro_f1"],
        )  # fmt: skip


if __name__ == "__main__":
    run(score_labels)
