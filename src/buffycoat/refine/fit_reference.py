"""Step `fit_reference`: the rules' references and whether each rule is on, from training cells out of fold."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from buffycoat.refine.evidence import read_evidence, require_out_of_fold
from buffycoat.refine.fit_rules import fit_rules
from buffycoat.refine.fitting import Training
from buffycoat.refine.rulebook import Rulebook, write_rulebook
from buffycoat.refine.settings import FitReference
from buffycoat.refine.switching import cross_fitted_rules, switch_rules
from buffycoat.refine.training_cells import training_cells
from buffycoat.steps import run
from buffycoat.tables.images import IMAGES, decodable, trainable

log = logging.getLogger("buffycoat")


def fit_rulebook(training: Training, settings: FitReference) -> Rulebook:
    """Return the fitted and switched rules of training cells."""
    measured = ~np.isnan(training.evidence.features["spikiness"])
    by_fold = cross_fitted_rules(training, settings)
    rules = switch_rules(training, fit_rules(training, settings), by_fold, settings)
    on = {fitted.rule.rescued for fitted in rules if fitted.state == "on"}
    return Rulebook(
        rows=len(training.labels),
        without_embedding=int(np.isnan(training.evidence.s).any(axis=1).sum()),
        unmeasured=int((~measured).sum()),
        rules=tuple(rules),
        by_fold={
            fold: tuple(one for one in fitted if one.state == "on" and one.rule.rescued in on)
            for fold, fitted in by_fold.items()
        },
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
    ids = trainable(seen)["image_id"]
    require_out_of_fold(probabilities, ids)
    if settings.switch == "when_it_helps":
        require_out_of_fold(head_probabilities, ids)
    evidence = read_evidence(
        seen["image_id"],
        classes=classes,
        probabilities=probabilities,
        head_probabilities=head_probabilities,
        morphology=morphology,
    )
    training, _ = training_cells(seen, evidence, folds)
    rulebook = fit_rulebook(training, settings)
    for fitted in rulebook.rules:
        log.info("rule %s is %s: %s", fitted.rule.rescued, fitted.state, fitted.reason)
    write_rulebook(rulebook, reference)


if __name__ == "__main__":
    run(fit_reference)
