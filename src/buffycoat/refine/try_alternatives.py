"""Step `try_alternatives`: the simple ways beside the rules, each cross-fitted like them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from buffycoat.core.steps import run
from buffycoat.data.labels import learned_rows
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, LABELS, class_codes, decodable
from buffycoat.data.tables.refine import ALTERNATIVES, REFINED_LABELS
from buffycoat.refine.algorithm import Evidence, Labels
from buffycoat.refine.evidence import read_evidence, require_out_of_fold, seen_in_training, training_cells
from buffycoat.refine.fitting import Training
from buffycoat.refine.gates import Values
from buffycoat.stats.scores import confusion, overall_scores

log = logging.getLogger("buffycoat")
Way = Callable[[Training, Evidence], Labels]

POWERS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
"""Powers of the class frequencies that `prior_correction` chooses from."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of branch A that `average` chooses from."""
LEAST = 1e-12
"""Probabilities are kept above it, so that their logarithms are finite."""
PHASES = {"phase_1": "phase_1", "phase_2": "phase_2", "rules": "label"}
"""Ways that the table of labels holds, and their columns there."""
OF_BRANCH_B = ("branch_b", "average", "stacking")
"""Ways that look at branch B's probabilities."""


def logs(evidence: Evidence) -> tuple[Values, Values]:
    """Return the logarithms of both branches' probabilities (n, K); branch A's stand in where there is no embedding."""
    s = np.where(np.isnan(evidence.s), evidence.p, evidence.s)
    return np.log(np.maximum(evidence.p, LEAST)), np.log(np.maximum(s, LEAST))


def named(evidence: Evidence, scores: Values) -> Labels:
    """Return the class of the largest of the scores (n, K), (n,)."""
    return np.asarray(np.array(evidence.classes)[scores.argmax(axis=1)])


def class_numbers(training: Training) -> np.ndarray:
    """Return the position of each training cell's class, (n,)."""
    return np.array([training.evidence.column(str(code)) for code in training.labels], np.int64)


def frequencies(training: Training) -> Values:
    """Return the share of each class among the training cells, (K,), a class without any counted as half a cell."""
    counts = np.bincount(class_numbers(training), minlength=len(training.evidence.classes))
    return np.asarray(np.maximum(counts, 0.5) / len(training.labels))


def best_of(training: Training, options: tuple[float, ...], scores: Callable[[float], Values]) -> float:
    """Return the option whose scores (n, K) label the training cells with the highest macro-F1; the first of equals."""
    true, classes = class_numbers(training), len(training.evidence.classes)

    def macro_f1(option: float) -> float:
        given = scores(option).argmax(axis=1)
        return float(overall_scores(confusion(true, given, classes))["macro_f1"])

    return max(options, key=macro_f1)


def branch_b(training: Training, asked: Evidence) -> Labels:
    """Return branch B's labels."""
    return named(asked, logs(asked)[1])


def average(training: Training, asked: Evidence) -> Labels:
    """Return the labels of a weighted geometric mean of both branches; the weight is fitted."""
    p, s = logs(training.evidence)
    share = best_of(training, SHARES, lambda share: share * p + (1 - share) * s)
    p, s = logs(asked)
    return named(asked, share * p + (1 - share) * s)


def prior_correction(training: Training, asked: Evidence) -> Labels:
    """Return branch A's labels, divided by a fitted power of the class frequencies (arXiv 2007.07314)."""
    prior, p = np.log(frequencies(training)), logs(training.evidence)[0]
    power = best_of(training, POWERS, lambda power: p - power * prior)
    return named(asked, logs(asked)[0] - power * prior)


def count_matching(training: Training, asked: Evidence) -> Labels:
    """Return branch A's labels, its classes weighted until each is given as often as in training.

    It looks at all asked cells together, and believes that their classes are as frequent as those of training.
    """
    wanted, p = frequencies(training) * len(asked.p), logs(asked)[0]
    weights = np.zeros(len(wanted))
    for step in range(200):
        counts = np.bincount((p + weights).argmax(axis=1), minlength=len(wanted))
        weights += (np.log(wanted + 0.5) - np.log(counts + 0.5)) / (2 + 0.1 * step)
    return named(asked, p + weights)


def stacking(training: Training, asked: Evidence) -> Labels:
    """Return the labels of a logistic regression on both branches' log-probabilities, classes weighted evenly."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(training.labels)) < 2:
        return asked.base_labels()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
    model.fit(np.hstack(logs(training.evidence)), training.labels)
    return np.asarray(model.predict(np.hstack(logs(asked))))


WAYS: dict[str, Way] = {
    "branch_b": branch_b,
    "average": average,
    "prior_correction": prior_correction,
    "count_matching": count_matching,
    "stacking": stacking,
}
"""Every way by its name, in the order of the table."""


def cross_fitted(training: Training, way: Way) -> Labels:
    """Return the training cells' own labels by a way, each by what was learned without the cell's fold."""
    # As wide as the longest class code, also of a class without training cells.
    labels = training.evidence.base_labels()
    for fold in np.unique(training.folds):
        rows = training.folds == fold
        labels[rows] = way(training.rows(~rows), training.evidence.rows(rows))
    return labels


def ways_of(head_probabilities: Path, ids: pd.Series) -> list[str]:
    """Return the ways that can be tried: without those of a branch B that has seen the training images `ids`."""
    if not seen_in_training(head_probabilities, ids):
        return list(WAYS)
    left_out = [name for name in WAYS if name in OF_BRANCH_B]
    log.warning("left out, since branch B has seen the training cells (cross_fit: false): %s", ", ".join(left_out))
    return [name for name in WAYS if name not in left_out]


def try_alternatives(
    *, images: Path, labels: Path, classes: Path, folds: Path, probabilities: Path, head_probabilities: Path,
    morphology: Path, refined_labels: Path, alternatives: Path,
) -> None:  # fmt: skip
    """Label every decodable image by every way; write a row per image and way."""
    image_rows = IMAGES.read(images)
    ids, codes = decodable(image_rows)["image_id"], class_codes(CLASSES.read(classes))
    rows = learned_rows(image_rows, LABELS.read(labels), FOLDS.read(folds), codes)
    require_out_of_fold(probabilities, rows["image_id"])
    evidence = read_evidence(
        ids, classes=classes, probabilities=probabilities, head_probabilities=head_probabilities, morphology=morphology
    )
    training, chosen = training_cells(ids, evidence, rows)
    refined = REFINED_LABELS.read(refined_labels).set_index("image_id").loc[ids]
    found = {way: refined[column].to_numpy(object) for way, column in PHASES.items()}
    for name in ways_of(head_probabilities, rows["image_id"]):
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
