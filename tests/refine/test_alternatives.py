from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from buffycoat.refine.algorithm import Evidence
from buffycoat.refine.fitting import Training
from buffycoat.refine.try_alternatives import WAYS, Way, average, count_matching, cross_fitted, prior_correction
from tests.refine.cases import CLASSES
from tests.refine.test_fitting import training

COUNTS = {"LY": 300, "SNE": 200, "PC": 30, "PLY": 10, "VLY": 50}


def dim(seed: int = 1, number: int = 1) -> Training:
    """Cells of normal logits: branch A overdoes the classes' frequencies, branch B knows nothing of them."""
    cells = training({code: number * count for code, count in COUNTS.items()}, seed)
    rng = np.random.default_rng(seed)
    true = np.eye(len(CLASSES))[[CLASSES.index(code) for code in cells.labels]]
    prior = np.log([COUNTS[code] for code in CLASSES])
    for target, bias in ((cells.evidence.p, 2 * prior), (cells.evidence.s, 0 * prior)):
        logits = 2 * rng.normal(size=true.shape) + 4 * true + bias
        # The log-likelihood ratio of N(4, 2) against N(0, 2) is linear in the logit, with slope 1.
        target[:] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return cells


def macro(cells: Training, given: np.ndarray) -> float:
    return float(f1_score(cells.labels, given, labels=list(CLASSES), average="macro", zero_division=0))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_no_way_looks_at_the_asked_labels_or_order(way: Way) -> None:
    cells, asked = dim(), dim(2).evidence
    order = np.random.default_rng(1).permutation(len(asked.p))
    features = {name: values[order] for name, values in asked.features.items()}
    shuffled = Evidence(asked.classes, asked.p[order], asked.s[order], features)
    assert np.array_equal(way(cells, asked)[order], way(cells, shuffled))
    assert set(way(cells, asked)) <= set(CLASSES)


@pytest.mark.parametrize("name", ["average", "prior_correction", "stacking"])
def test_fitted_ways_help_where_they_should(name: str) -> None:
    cells, fresh = dim(number=3), dim(2, number=3)
    before = macro(fresh, fresh.evidence.base_labels())
    assert macro(fresh, WAYS[name](cells, fresh.evidence)) > before + 0.01


def test_a_useless_branch_b_has_no_say() -> None:
    cells = dim()
    cells.evidence.s[:] = np.random.default_rng(3).dirichlet(np.ones(len(CLASSES)) * 0.05, len(cells.labels))
    assert macro(cells, average(cells, cells.evidence)) >= macro(cells, cells.evidence.base_labels())


def test_prior_correction_leaves_equal_classes_alone() -> None:
    cells = dim()
    even = Training(cells.evidence, np.resize(np.array(CLASSES), len(cells.labels)), cells.folds)
    assert np.array_equal(prior_correction(even, cells.evidence), cells.evidence.base_labels())


def test_counts_are_matched() -> None:
    cells, fresh = dim(number=3), dim(2, number=3)
    given = count_matching(cells, fresh.evidence)
    for code, count in COUNTS.items():
        assert (given == code).sum() == pytest.approx(3 * count, abs=3 + 0.05 * 3 * count)


def test_missing_embeddings_fall_back_on_branch_a() -> None:
    cells = dim()
    cells.evidence.s[:] = np.nan
    assert np.array_equal(WAYS["branch_b"](cells, cells.evidence), cells.evidence.base_labels())
    for way in WAYS.values():
        assert set(way(cells, cells.evidence)) <= set(CLASSES)


def test_every_cell_is_labelled_without_its_fold() -> None:
    cells = dim()
    wrong = Training(cells.evidence, np.where(cells.folds == 0, "SNE", cells.labels), cells.folds)
    own = cells.folds == 0
    for way in WAYS.values():
        assert np.array_equal(cross_fitted(cells, way)[own], cross_fitted(wrong, way)[own])


def test_a_class_without_training_cells_keeps_its_whole_code() -> None:
    cells = dim()
    long = Evidence(("LY", "PC", "PLY", "SNE", "BASOPHIL"), cells.evidence.p, cells.evidence.s, cells.evidence.features)
    known = cells.labels != "VLY"
    some = Training(long.rows(known), cells.labels[known], cells.folds[known])
    found = cross_fitted(some, lambda training, asked: np.full(len(asked.p), "BASOPHIL"))
    assert set(found) == {"BASOPHIL"}
