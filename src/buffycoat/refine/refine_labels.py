"""Step `refine_labels`: Algorithm 1 with the fitted rules, on every image, with the evidence of each change."""

from __future__ import annotations

import itertools
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.core.steps import run
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, class_codes, decodable
from buffycoat.data.tables.refine import REFINED_LABELS
from buffycoat.refine.algorithm import (
    Judged,
    Outcome,
    apply_rules,
    explain,
    explain_near_miss,
    near_misses,
    traced_rows,
)
from buffycoat.refine.evidence import Inputs, evidence_of, read_inputs
from buffycoat.refine.rules import FittedRule, Rulebook, read_rulebook

log = logging.getLogger("buffycoat")


@dataclass(frozen=True)
class Refiner:
    """What applying the rules needs."""

    codes: list[str]
    """The classes, in the order of the probabilities."""
    rulebook: Rulebook
    """The fitted rules."""


def load_refiner(path: Path, codes: list[str]) -> Refiner:
    """Return the rules of the file `path`; raises InputError where one is of a class that the data set lacks."""
    rulebook = read_rulebook(path)
    for fitted in rulebook.rules:
        log.info("rule %s is %s: %s", fitted.rule.rescued, fitted.state, fitted.reason)
    for fitted in [*rulebook.active(), *itertools.chain(*rulebook.by_fold.values())]:
        unknown = {fitted.rule.rescued, *fitted.rule.hides_in} - set(codes)
        if unknown:
            raise InputError(f"{path}: rules for {sorted(unknown)}, which are no classes here; run it again")
    return Refiner(codes, rulebook)


def labels_table(ids: pd.Series, outcome: Outcome) -> pd.DataFrame:
    """Return the table of refined labels: a row per image, with trace and reason."""
    traces, reasons = ["[]"] * len(ids), [""] * len(ids)
    for row, trace in traced_rows(outcome):
        traces[row] = json.dumps(trace, allow_nan=False)
        reasons[row] = explain(str(outcome.base[row]), str(outcome.label[row]), trace)
    nearly: list[str | None] = [None] * len(ids)
    against = [""] * len(ids)
    for row, entry in near_misses(outcome):
        nearly[row], against[row] = entry["rule"], explain_near_miss(entry)
    return pd.DataFrame(
        {
            "image_id": ids.to_numpy(),
            "base_label": outcome.base,
            "suppressed_label": outcome.suppressed,
            "suppressed_probability": outcome.q,
            "phase_1": outcome.phases[0],
            "phase_2": outcome.phases[1],
            "phase_3": outcome.phases[2],
            "label": outcome.label,
            "changed": outcome.label != outcome.base,
            "trace": traces,
            "reason": reasons,
            "near_miss": nearly,
            "near_miss_reason": against,
        }
    )


def log_changes(outcomes: list[Outcome]) -> None:
    """Log, for each rule, how many cells were left after each phase."""
    judged: dict[str, list[tuple[Outcome, Judged]]] = {}
    for outcome in outcomes:
        for one in outcome.judged:
            judged.setdefault(one.fitted.rule.rescued, []).append((outcome, one))
    for code, pairs in judged.items():
        left = [sum(int(np.count_nonzero(one.after[phase])) for _, one in pairs) for phase in range(3)]
        given = sum(int((outcome.label == code).sum()) for outcome, _ in pairs)
        no_embedding = sum(int((one.after[0] & np.isnan(one.phase_2.value)).sum()) for _, one in pairs)
        log.info(
            "%s: %d candidates, %d verified (%d dropped without an embedding), %d through the biological filters,"
            " %d labelled so",
            *(code, left[0], left[1], no_embedding, left[2], given),
        )
    changed = sum(int((outcome.label != outcome.base).sum()) for outcome in outcomes)
    log.info("%d of %d labels changed", changed, sum(len(outcome.label) for outcome in outcomes))


def rules_by_fold(folds: np.ndarray, rulebook: Rulebook) -> list[tuple[np.ndarray, list[FittedRule]]]:
    """Return which rows (n,) bool are judged by which rules, every row once.

    Parameters: folds (n,) float64, NaN for a cell that no rule learned from: all rules that are on judge it. Raises
    InputError where a fold has no rules.
    """
    unknown = sorted(set(folds[~np.isnan(folds)].astype(int).tolist()) - set(rulebook.by_fold))
    if unknown:
        raise InputError(f"the fitted rules hold none for fold {unknown[0]}; run fit_rules again")
    held_out = [(folds == fold, list(rules)) for fold, rules in rulebook.by_fold.items()]
    return [(np.isnan(folds), rulebook.active()), *(pair for pair in held_out if pair[0].any())]


def apply(rows: pd.DataFrame, refiner: Refiner, inputs: Inputs) -> pd.DataFrame:
    """Return the labels (table REFINED_LABELS) of the rows, in their order.

    A training cell is judged by the rules that were fitted without its fold. Parameters: rows, with image_id and fold,
    a gap where the image was not learned from. Raises InputError where a fold has no rules.
    """
    ids, folds = rows["image_id"], rows["fold"].to_numpy(np.float64, na_value=np.nan)
    evidence = evidence_of(ids, refiner.codes, inputs)
    parts, outcomes = [], []
    for chosen, rules in rules_by_fold(folds, refiner.rulebook):
        outcome = apply_rules(evidence.rows(chosen), rules)
        outcomes.append(outcome)
        parts.append(labels_table(ids[chosen], outcome))
    log_changes(outcomes)
    return pd.concat(parts, ignore_index=True).set_index("image_id").loc[ids].reset_index()


def refine_labels(
    *, images: Path, classes: Path, folds: Path, probabilities: Path, head_probabilities: Path, morphology: Path,
    rules: Path, refined_labels: Path,
) -> None:  # fmt: skip
    """Apply the rules that are on to every decodable image; without any, branch A's labels stay.

    Rules that learned from a training cell do not judge it: its fold has rules of its own.
    """
    codes = class_codes(CLASSES.read(classes))
    rows = decodable(IMAGES.read(images))[["image_id"]].merge(FOLDS.read(folds), on="image_id", how="left")
    inputs = read_inputs(
        rows["image_id"],
        codes,
        probabilities=probabilities,
        head_probabilities=head_probabilities,
        morphology=morphology,
    )
    REFINED_LABELS.write(apply(rows, load_refiner(rules, codes), inputs), refined_labels)


if __name__ == "__main__":
    run(refine_labels)
