"""Step `refine_labels`: Algorithm 1 with the fitted rules, on every image, with the evidence of each change."""

from __future__ import annotations

import itertools
import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.core.steps import run
from buffycoat.data.tables.index import FOLDS, IMAGES, decodable
from buffycoat.data.tables.refine import REFINED_LABELS
from buffycoat.refine.algorithm import (
    Evidence,
    Judged,
    Outcome,
    apply_rules,
    explain,
    explain_near_miss,
    near_misses,
    traced_rows,
)
from buffycoat.refine.evidence import read_evidence
from buffycoat.refine.rules import Rulebook, read_rulebook
from buffycoat.refine.settings import RefineLabels

log = logging.getLogger("buffycoat")


def rulebook_in_use(path: Path, classes: tuple[str, ...]) -> Rulebook:
    """Return the rules; raises InputError where one is of a class that the data set does not have."""
    rulebook = read_rulebook(path)
    for fitted in rulebook.rules:
        log.info("rule %s is %s: %s", fitted.rule.rescued, fitted.state, fitted.reason)
    for fitted in [*rulebook.active(), *itertools.chain(*rulebook.by_fold.values())]:
        unknown = {fitted.rule.rescued, *fitted.rule.hides_in} - set(classes)
        if unknown:
            raise InputError(f"{path}: rules for {sorted(unknown)}, which are no classes here; run it again")
    return rulebook


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


def outcomes_of(ids: pd.Series, fold_of: pd.Series, evidence: Evidence, rulebook: Rulebook) -> pd.DataFrame:
    """Return the refined labels in the order of `ids`: a training cell's by the rules fitted without its fold."""
    folds = fold_of.reindex(ids).to_numpy(np.float64)
    unknown = sorted(set(folds[~np.isnan(folds)].astype(int).tolist()) - set(rulebook.by_fold))
    if unknown:
        raise InputError(f"the fitted rules hold none for fold {unknown[0]}; run fit_rules again")
    parts, outcomes = [], []
    for fold in (None, *rulebook.by_fold):
        rows = np.isnan(folds) if fold is None else folds == fold
        outcome = apply_rules(evidence.rows(rows), rulebook.active() if fold is None else rulebook.by_fold[fold])
        outcomes.append(outcome)
        parts.append(labels_table(ids[rows], outcome))
    log_changes(outcomes)
    return pd.concat(parts, ignore_index=True).set_index("image_id").loc[ids].reset_index()


def refine_labels(
    *, images: Path, classes: Path, folds: Path, probabilities: Path, head_probabilities: Path, morphology: Path,
    rules: Path, refined_labels: Path, settings: RefineLabels,
) -> None:  # fmt: skip
    """Apply the rules that are on to every decodable image; without any, branch A's labels stay.

    Rules that learned from a training cell do not judge it: its fold has rules of its own.
    """
    ids = decodable(IMAGES.read(images))["image_id"]
    evidence = read_evidence(
        ids,
        classes=classes,
        probabilities=probabilities,
        head_probabilities=head_probabilities,
        morphology=morphology,
    )
    fold_of = FOLDS.read(folds).set_index("image_id")["fold"]
    if settings.mode == "off":
        REFINED_LABELS.write(labels_table(ids, apply_rules(evidence, [])), refined_labels)
        return
    table = outcomes_of(ids, fold_of, evidence, rulebook_in_use(rules, evidence.classes))
    REFINED_LABELS.write(table, refined_labels)


if __name__ == "__main__":
    run(refine_labels)
