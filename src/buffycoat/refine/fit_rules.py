"""Step `fit_rules`: the rules, their references and thresholds, fitted on training cells; which are on."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from buffycoat.core.steps import run
from buffycoat.data.labels import learned_rows
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, LABELS, class_codes, decodable
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
    labels: Path,
    classes: Path,
    folds: Path,
    probabilities: Path,
    head_probabilities: Path,
    morphology: Path,
    rules: Path,
    settings: FitRules,
) -> None:
    """Fit every rule on the trainable rows, decide which are on, and write them as JSON."""
    image_rows = IMAGES.read(images)
    ids, codes = decodable(image_rows)["image_id"], class_codes(CLASSES.read(classes))
    rows = learned_rows(image_rows, LABELS.read(labels), FOLDS.read(folds), codes)
    require_out_of_fold(probabilities, rows["image_id"])
    if settings.switch == "when_it_helps":
        require_out_of_fold(head_probabilities, rows["image_id"])
    evidence = read_evidence(
        ids,
        classes=classes,
        probabilities=probabilities,
        head_probabilities=head_probabilities,
        morphology=morphology,
    )
    training, _ = training_cells(ids, evidence, rows)
    rulebook = fit_rulebook(training, settings)
    for fitted in rulebook.rules:
        log.info("rule %s is %s: %s", fitted.rule.rescued, fitted.state, fitted.reason)
    write_rulebook(rulebook, rules)


if __name__ == "__main__":
    run(fit_rules)
