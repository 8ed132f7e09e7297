"""Step `fit_rules`: the rules, their references and thresholds, fitted on training cells; which are on."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from buffycoat.core.steps import run
from buffycoat.data.tables.index import IMAGES, decodable, trainable
from buffycoat.refine.evidence import read_evidence, require_out_of_fold, training_cells
from buffycoat.refine.find_rules import fit_every_rule
from buffycoat.refine.fitting import Training
from buffycoat.refine.rules import Rulebook, write_rulebook
from buffycoat.refine.settings import FitRules
from buffycoat.refine.switching import cross_fitted_rules, switch_rules

log = logging.getLogger("buffycoat")


def fit_rulebook(training: Training, settings: FitRules) -> Rulebook:
    """Return the fitted and switched rules of training cells."""
    measured = ~np.isnan(training.evidence.features["spikiness"])
    by_fold = cross_fitted_rules(training, settings)
    rules = switch_rules(training, fit_every_rule(training, settings), by_fold, settings)
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


def fit_rules(
    *,
    images: Path,
    classes: Path,
    folds: Path,
    probabilities: Path,
    head_probabilities: Path,
    morphology: Path,
    rules: Path,
    settings: FitRules,
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
    write_rulebook(rulebook, rules)


if __name__ == "__main__":
    run(fit_rules)
