"""Step `try_alternatives`: the simple ways beside the rules, each cross-fitted like them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from buffycoat.refine.alternatives import WAYS, cross_fitted
from buffycoat.refine.evidence import read_evidence, require_out_of_fold, seen_in_training
from buffycoat.refine.settings import TryAlternatives
from buffycoat.refine.training_cells import training_cells
from buffycoat.steps import run
from buffycoat.tables.alternatives import ALTERNATIVES
from buffycoat.tables.images import IMAGES, decodable, trainable
from buffycoat.tables.labels import LABELS

log = logging.getLogger("buffycoat")

PHASES = {"phase_1": "phase_1", "phase_2": "phase_2", "rules": "label"}
"""Ways that the table of labels holds, and their columns there."""
OF_BRANCH_B = ("branch_b", "average", "stacking")
"""Ways that look at branch B's probabilities."""


def ways_of(head_probabilities: Path, ids: pd.Series, settings: TryAlternatives) -> list[str]:
    """Return the ways that can be tried: without those of a branch B that has seen the training images `ids`."""
    if not seen_in_training(head_probabilities, ids):
        return list(settings.ways)
    left_out = [name for name in settings.ways if name in OF_BRANCH_B]
    log.warning("left out, since branch B has seen the training cells (cross_fit: false): %s", ", ".join(left_out))
    return [name for name in settings.ways if name not in left_out]


def try_alternatives(
    *, images: Path, classes: Path, folds: Path, probabilities: Path, head_probabilities: Path, morphology: Path,
    labels: Path, alternatives: Path, settings: TryAlternatives,
) -> None:  # fmt: skip
    """Label every decodable image by every way; write a row per image and way."""
    seen = decodable(IMAGES.read(images))
    ids, rows = seen["image_id"], trainable(seen)
    require_out_of_fold(probabilities, rows["image_id"])
    evidence = read_evidence(
        ids, classes=classes, probabilities=probabilities, head_probabilities=head_probabilities, morphology=morphology
    )
    training, chosen = training_cells(seen, evidence, folds)
    given = LABELS.read(labels).set_index("image_id").loc[ids]
    found = {way: given[column].to_numpy(object) for way, column in PHASES.items()}
    for name in ways_of(head_probabilities, rows["image_id"], settings):
        made = np.empty(len(ids), object)
        made[chosen] = cross_fitted(training, WAYS[name])
        if not chosen.all():
            made[~chosen] = WAYS[name](training, evidence.rows(~chosen))
        found[name] = made
        log.info("%s: %d of %d labels are not branch A's", name, int((made != evidence.base_labels()).sum()), len(ids))
    parts = [pd.DataFrame({"image_id": ids, "way": way, "label": made}) for way, made in found.items()]
    ALTERNATIVES.write(pd.concat(parts, ignore_index=True), alternatives)


if __name__ == "__main__":
    run(try_alternatives)
