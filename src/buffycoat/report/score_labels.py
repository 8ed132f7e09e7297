"""Step `score_labels`: every score of every phase, with its interval."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from buffycoat.core.files import write_json
from buffycoat.core.settings import Statistics
from buffycoat.core.steps import run
from buffycoat.data.labels import class_numbers, clusters_of, labelled, rows_of_parts
from buffycoat.data.tables.classify import PROBABILITIES
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, LABELS, TEST_LABELS, class_codes
from buffycoat.data.tables.refine import REFINED_LABELS
from buffycoat.data.tables.report import CONFUSION, METRICS
from buffycoat.stats.calibration import BINS
from buffycoat.stats.scores import (
    CONFIDENCE,
    DEFINITIONS,
    OVERALL,
    Values,
    calibration_error,
    class_intervals,
    class_scores,
    cluster_matrices,
    confusion,
    interval,
    overall_scores,
    resample,
    resampled_scores,
    score_intervals,
)

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
"""Pairs of phases whose difference is reported; the last is the whole refinement."""


@dataclass(frozen=True)
class Part:
    """The images of one part with known labels: class numbers, one column per phase, and clusters."""

    name: str
    true: np.ndarray
    predicted: dict[str, np.ndarray]
    clusters: np.ndarray
    units: str
    """What a cluster is: 'patients', 'images', or 'patients where known, otherwise images'."""


def part_of(name: str, rows: pd.DataFrame, codes: list[str]) -> Part:
    """Return the part made of labelled rows (columns true, group, and one per phase)."""
    number = class_numbers(codes)
    predicted = {phase: rows[column].map(number).to_numpy(np.int64) for phase, column in PHASES.items()}
    return Part(name, rows["true"].map(number).to_numpy(np.int64), predicted, *clusters_of(rows))


def joined_rows(
    images: pd.DataFrame, test_labels: pd.DataFrame, refined: pd.DataFrame, head: pd.DataFrame, codes: list[str]
) -> pd.DataFrame:
    """Return every predicted image with its group, its known label where there is one, and each phase's label.

    `images` are those of `data.labels.labelled`, `refined` are the refined labels.
    """
    head_label = pd.Series(np.array(codes, object)[head[codes].to_numpy().argmax(axis=1)], index=head["image_id"])
    # Without the traces, which are most of the table: they would be copied with every join.
    phases = [column for column in dict.fromkeys(PHASES.values()) if column in refined]
    frame = refined[["image_id", *phases]].merge(
        images[["image_id", "group", "role"]], on="image_id", validate="one_to_one"
    )
    frame["head_label"] = frame["image_id"].map(head_label)
    answers = test_labels.set_index("image_id")["label"]
    return frame.assign(answer=frame["image_id"].map(answers))


def score_part(
    part: Part, codes: list[str], seed: int, statistics: Statistics
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the metric rows of a part with intervals, and the paired differences between phases."""
    count = len(codes)
    present = np.bincount(part.true, minlength=count) > 0
    matrices = [cluster_matrices(part.true, guessed, part.clusters, count) for guessed in part.predicted.values()]
    drawn = dict(zip(part.predicted, resample(matrices, statistics.resamples, seed, part.name), strict=True))
    rows: list[dict[str, Any]] = []
    for phase, guessed in part.predicted.items():
        matrix = confusion(part.true, guessed, count)
        rows += _overall_rows(phase, part.name, matrix, score_intervals(drawn[phase], present))
        rows += _class_rows(phase, part.name, matrix, codes, class_intervals(drawn[phase]))
    gains = {}
    for later, earlier in STEPS:
        gains[f"{later} - {earlier}"] = _difference(part, drawn, later, earlier, present, count)
    return rows, gains


def _difference(
    part: Part,
    drawn: dict[str, Values],
    later: str,
    earlier: str,
    present: np.ndarray,
    count: int,
) -> dict[str, float]:
    value = [
        float(overall_scores(confusion(part.true, part.predicted[phase], count))["macro_f1"])
        for phase in (later, earlier)
    ]
    resampled = [resampled_scores(drawn[phase], present)["macro_f1"] for phase in (later, earlier)]
    low, high = interval(resampled[0] - resampled[1])
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


def over_folds(metrics: pd.DataFrame) -> dict[str, Any]:
    """Return mean and SD over the folds of each overall score, before and after refinement."""
    rows = metrics[metrics["part"].str.startswith("fold_") & (metrics["class"] == "all")]
    found: dict[str, Any] = {}
    for phase, name in (("branch_a", "before_refinement"), ("phase_3", "after_refinement")):
        for metric, values in rows[rows["phase"] == phase].groupby("metric", sort=False)["value"]:
            spread = float(values.std(ddof=1)) if len(values) > 1 else None
            found.setdefault(name, {})[str(metric)] = {"mean": float(values.mean()), "sd": spread, "folds": len(values)}
    return found


def severity_scores(
    of_parts: dict[str, pd.DataFrame], images: pd.DataFrame, codes: list[str], seed: int, statistics: Statistics
) -> dict[str, list[dict[str, Any]]]:
    """Return macro-F1 with its interval and accuracy, before and after refinement, by part and severity of the images.

    Severities are in the source's words, in order of name; parts without any are left out.
    """
    severities = images.set_index("image_id")["severity"].dropna()
    found: dict[str, list[dict[str, Any]]] = {}
    for name, rows in of_parts.items():
        told = rows["image_id"].map(severities)
        for severity in sorted(told.dropna().unique()):
            part = part_of(f"{name}, severity {severity}", rows[told == severity], codes)
            metrics = pd.DataFrame(score_part(part, codes, seed, statistics)[0])
            shown = metrics[(metrics["class"] == "all") & metrics["metric"].isin(["macro_f1", "accuracy"])]
            entry: dict[str, Any] = {"severity": severity, "images": len(part.true)}
            for phase, when in (("branch_a", "before_refinement"), ("phase_3", "after_refinement")):
                values = shown[shown["phase"] == phase].set_index("metric")[["value", "low", "high"]]
                entry[when] = values.astype(float).to_dict("index")
            found.setdefault(name, []).append(entry)
    return found


def calibration_of(
    parts: list[Part], rows: dict[str, pd.DataFrame], chances: pd.DataFrame, codes: list[str]
) -> dict[str, Any]:
    """Return the calibration error of branch A and its bins, per part."""
    found = {}
    for part in parts:
        values = chances.loc[rows[part.name]["image_id"], codes].to_numpy(np.float64)
        error, table = calibration_error(values, part.true, BINS)
        found[part.name] = {"expected_calibration_error": error, "bins": table}
    return found


def circumstances(parts: list[Part], codes: list[str], statistics: Statistics) -> dict[str, Any]:
    """Return what a reader must know to judge the scores: clusters, absent classes, definitions."""
    absent = {part.name: [code for k, code in enumerate(codes) if not (part.true == k).any()] for part in parts}
    return {
        "absent_classes": absent,
        "clusters": {part.name: part.units for part in parts},
        "resamples": statistics.resamples,
        "confidence": CONFIDENCE,
        "definition": DEFINITIONS["macro_f1"],
        "definitions": DEFINITIONS,
    }


def score_labels(
    *, images: Path, labels: Path, test_labels: Path, classes: Path, folds: Path, probabilities: Path,
    head_probabilities: Path, refined_labels: Path, metrics: Path, confusions: Path, summary: Path, seed: int,
    statistics: Statistics,
) -> None:  # fmt: skip
    """Score every phase on the pooled out-of-fold images, on each fold, and on the test images whose label is known."""
    codes = class_codes(CLASSES.read(classes))
    image_rows = labelled(IMAGES.read(images), LABELS.read(labels))
    answers, head = TEST_LABELS.read(test_labels), PROBABILITIES.read(head_probabilities)
    frame = joined_rows(image_rows, answers, REFINED_LABELS.read(refined_labels), head, codes)
    of_parts = rows_of_parts(frame, image_rows, FOLDS.read(folds))
    parts = [part_of(name, rows, codes) for name, rows in of_parts.items()]
    scored, gains = fold_rows(of_parts["out_of_fold"], codes), {}
    for part in parts:
        rows, gains[part.name] = score_part(part, codes, seed, statistics)
        scored += rows
    table = pd.DataFrame(scored)
    METRICS.write(table, metrics)
    CONFUSION.write(pd.concat([confusion_rows(part, codes) for part in parts], ignore_index=True), confusions)
    chances = PROBABILITIES.read(probabilities).set_index("image_id")
    found = {
        "headline": headline(table),
        "gains": gains,
        "folds": over_folds(table),
        **circumstances(parts, codes, statistics),
        "calibration": calibration_of(parts, of_parts, chances, codes),
        "severities": severity_scores(of_parts, image_rows, codes, seed, statistics),
        "in_sample_head": bool((head["source"] == "in_sample").any()),
        "test_labels_without_pixels": len(set(answers["image_id"]) - set(frame["image_id"])),
    }
    write_json(found, summary)
    for name, entry in found["headline"].items():
        log.info(
            "%s: macro-F1 %.4f before refinement, %.4f after",
            name, entry["before_refinement"]["macro_f1"], entry["after_refinement"]["macro_f1"],
        )  # fmt: skip


if __name__ == "__main__":
    run(score_labels)
