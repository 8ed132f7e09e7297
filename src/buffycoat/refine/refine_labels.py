"""Step `refine_labels`: Algorithm 1 with the fitted rules, on every image, with the evidence of each change."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from buffycoat.errors import InputError
from buffycoat.refine.algorithm import Outcome, apply_rules
from buffycoat.refine.evidence import read_evidence
from buffycoat.refine.rulebook import FittedRule, read_rulebook
from buffycoat.refine.sentences import explain
from buffycoat.refine.settings import RefineLabels
from buffycoat.refine.trace import traced_rows
from buffycoat.steps import run
from buffycoat.tables.images import IMAGES, decodable
from buffycoat.tables.labels import LABELS

log = logging.getLogger("buffycoat")


def rules_in_use(reference: Path, classes: tuple[str, ...], settings: RefineLabels) -> list[FittedRule]:
    """Return the rules to apply; raises InputError where one is of a class that the data set does not have."""
    if settings.mode == "off":
        return []
    rulebook = read_rulebook(reference)
    for fitted in rulebook.rules:
        log.info("rule %s is %s: %s", fitted.rule.rescued, fitted.state, fitted.reason)
    rules = rulebook.active()
    for fitted in rules:
        unknown = {fitted.rule.rescued, *fitted.rule.hides_in} - set(classes)
        if unknown:
            raise InputError(f"{reference}: rules for {sorted(unknown)}, which are no classes here; run it again")
    return rules


def labels_table(ids: pd.Series, outcome: Outcome) -> pd.DataFrame:
    """Return the table of labels: a row per image, with trace and reason."""
    traces, reasons = ["[]"] * len(ids), [""] * len(ids)
    for row, trace in traced_rows(outcome):
        traces[row] = json.dumps(trace, allow_nan=False)
        reasons[row] = explain(str(outcome.base[row]), str(outcome.label[row]), trace)
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
        }
    )


def log_changes(outcome: Outcome) -> None:
    """Log, for each rule, how many cells were left after each phase."""
    for one in outcome.judged:
        left = [int(np.count_nonzero(passed)) for passed in one.after]
        given = int((outcome.label == one.fitted.rule.rescued).sum())
        no_embedding = int((one.after[0] & np.isnan(one.phase_2.value)).sum())
        log.info(
            "%s: %d candidates, %d verified (%d dropped without an embedding), %d through the biological filters,"
            " %d labelled so",
            *(one.fitted.rule.rescued, left[0], left[1], no_embedding, left[2], given),
        )
    log.info("%d of %d labels changed", int((outcome.label != outcome.base).sum()), len(outcome.label))


def refine_labels(
    *,
    images: Path,
    classes: Path,
    probabilities: Path,
    head_probabilities: Path,
    morphology: Path,
    reference: Path,
    labels: Path,
    settings: RefineLabels,
) -> None:
    """Apply the rules that are on to every decodable image; without any, branch A's labels stay."""
    ids = decodable(IMAGES.read(images))["image_id"]
    evidence = read_evidence(
        ids,
        classes=classes,
        probabilities=probabilities,
        head_probabilities=head_probabilities,
        morphology=morphology,
    )
    outcome = apply_rules(evidence, rules_in_use(reference, evidence.classes, settings))
    log_changes(outcome)
    LABELS.write(labels_table(ids, outcome), labels)


if __name__ == "__main__":
    run(refine_labels)
