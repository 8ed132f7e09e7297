"""Step `fit_reference`: the rules' references and whether each rule is on, from training cells out of fold."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from buffycoat.refine.evidence import read_evidence, require_out_of_fold
from buffycoat.refine.fitting import Training, fit_rules
from buffycoat.refine.rulebook import Rulebook, write_rulebook
from buffycoat.refine.settings import FitReference
from buffycoat.refine.switching import switch_rules
from buffycoat.steps import run
from buffycoat.tables.folds import FOLDS
from buffycoat.tables.images import IMAGES, decodable, trainable
from buffycoat.tables.schema import require_same_keys

log = logging.getLogger("buffycoat")


def fit_rulebook(training: Training, settings: FitReference) -> Rulebook:
    """Return the fitted and switched rules of training cells."""
    measured = ~np.isnan(training.evidence.features["spikiness"])
    return Rulebook(
        rows=len(training.labels),
        without_embedding=int(np.isnan(training.evidence.s).any(axis=1).sum()),
        unmeasured=int((~measured).sum()),
        rules=tuple(switch_rules(training, fit_rules(training, settings), settings)),
    )


def fit_reference(
    *,
    images: Path,
    classes: Path,
    folds: Path,
    probabilities: Path,
    head_probabilities: Path,
    morphology: Path,
    reference: Path,
    settings: FitReference,
) -> None:
    """Fit every rule on the trainable rows, decide which are on, and write them as JSON."""
    seen = decodable(IMAGES.read(images))
    rows = trainable(seen)
    fold_of = FOLDS.read(folds).set_index("image_id")["fold"]
    require_same_keys(fold_of.index.to_series(), rows["image_id"], str(folds))
    require_out_of_fold(probabilities, rows["image_id"])
    if settings.switch == "when_it_helps":
        require_out_of_fold(head_probabilities, rows["image_id"])
    evidence = read_evidence(
        seen["image_id"],
        classes=classes,
        probabilities=probabilities,
        head_probabilities=head_probabilities,
        morphology=morphology,
    )
    labels = rows["label"].to_numpy(dtype=np.str_)
    chosen = seen["image_id"].isin(rows["image_id"]).to_numpy(bool)
    training = Training(evidence.rows(chosen), labels, fold_of.loc[rows["image_id"]].to_numpy(np.int64))
    rulebook = fit_rulebook(training, settings)
    for fitted in rulebook.rules:
        log.info("rule %s is %s: %s", fitted.rule.rescued, fitted.state, fitted.reason)
    write_rulebook(rulebook, reference)


if __name__ == "__main__":
    run(fit_reference)
