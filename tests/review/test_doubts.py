"""Disagreement and label doubts: bounds and closed forms, planted errors, classes that nobody can judge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from buffycoat.review.find_suspects import divergence, known_elsewhere, label_doubts, ranks_within

# SciPy's own answer is infinite where a probability is so small that half of it is 0.
ROWS = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=4, max_size=4).filter(lambda row: sum(row) > 0.01)


def normal(row: list[float]) -> np.ndarray:
    return np.array([row]) / np.sum(row)


@given(ROWS, ROWS)
def test_divergence_is_symmetric_bounded_and_that_of_scipy(first: list[float], second: list[float]) -> None:
    p, q = normal(first), normal(second)
    found = divergence(p, q)
    assert found == pytest.approx(divergence(q, p), abs=1e-12) and 0 <= found[0] <= 1
    assert divergence(p, p)[0] == 0
    # SciPy takes the root of what rounding may have left below 0.
    assert found == pytest.approx(np.nan_to_num(jensenshannon(p, q, base=2, axis=1)) ** 2, abs=1e-6)


def test_divergence_of_disjoint_rows_is_one_bit_and_gaps_stay() -> None:
    p = np.array([[0.4, 0.6, 0, 0], [0.5, 0.5, 0, 0], [1, 0, 0, 0]])
    q = np.array([[0, 0, 0.9, 0.1], [np.nan] * 4, [0.5, 0.5, 0, 0]])
    found = divergence(p, q)
    assert found[0] == 1 and np.isnan(found[1])
    assert found[2] == pytest.approx(1.5 - 0.75 * np.log2(3))


def test_branches_that_are_97_percent_sure_of_different_classes_diverge_by_the_default() -> None:
    # The reason that the setting gives for 0.8 (and 0.5): 1 - H(0.03), in bits.
    p, q = np.array([[0.97, 0.03], [0.89, 0.11]]), np.array([[0.03, 0.97], [0.11, 0.89]])
    assert divergence(p, q) == pytest.approx([0.806, 0.5], abs=0.002)


def test_the_smallest_probabilities_do_not_diverge() -> None:
    for least in (5e-324, np.finfo(np.float64).tiny):
        assert divergence(np.array([[1.0, 0.0]]), np.array([[1.0, least]])) == pytest.approx([0])


def sure(numbers: np.ndarray, classes: int = 3, seed: int = 0) -> np.ndarray:
    """Probabilities that are around 0.8 for the true class."""
    rng = np.random.default_rng(seed)
    chances = rng.dirichlet(np.ones(classes), len(numbers)) * 0.3
    chances[np.arange(len(numbers)), numbers] += 0.7
    return chances


NUMBERS = np.arange(300) % 3
FOLDS = np.arange(300) // 3 % 5


def test_a_planted_label_error_is_first_of_its_class_and_contradicted() -> None:
    labels = NUMBERS.copy()
    labels[[10, 50]] = (labels[[10, 50]] + 1) % 3
    found = label_doubts(sure(NUMBERS), labels, FOLDS)
    assert set(np.argsort(-found.doubt)[:2]) == {10, 50}
    assert found.rank[[10, 50]].tolist() in ([1, 1], [1, 2], [2, 1])
    assert found.contradicted.nonzero()[0].tolist() == [10, 50]
    assert (found.likely[[10, 50]] == NUMBERS[[10, 50]]).all()


def test_without_wrong_labels_none_is_contradicted_and_doubts_are_usual() -> None:
    found = label_doubts(sure(NUMBERS), NUMBERS, FOLDS)
    assert not found.contradicted.any()
    assert (np.abs(found.doubt - 0.5) < 0.1).all()
    for number in range(3):
        assert sorted(found.rank[NUMBERS == number]) == list(range(1, 101))


def test_the_doubt_is_the_closed_form_of_the_classs_mean() -> None:
    chances = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.6, 0.4]])
    found = label_doubts(chances, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    assert found.usual == pytest.approx([0.7, 0.6])
    assert found.doubt == pytest.approx([0.7 / 1.6, 0.7 / 1.2, 0.6 / 1.4, 0.6 / 1.0])
    assert found.rank.tolist() == [2, 1, 2, 1]
    # The last: no class reaches its own mean (0.6 < 0.7, 0.4 < 0.6), so nothing speaks surely enough against the label.
    assert not found.contradicted.any()


def test_a_class_that_nothing_is_sure_of_does_not_contradict_the_most_probable_label() -> None:
    # Class 1 has the mean 0.2: by the mean alone, the first image (0.7 for its label) would be called a 1.
    chances = np.array([[0.7, 0.3], [0.99, 0.01], [0.8, 0.2], [0.8, 0.2]])
    found = label_doubts(chances, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    assert found.usual == pytest.approx([0.845, 0.2])
    assert not found.contradicted[0]


def test_a_label_that_is_as_sure_as_usual_is_not_contradicted_by_a_class_that_is_not() -> None:
    # The last image: 0.4 is more than is usual of class 1 (0.35), 0.6 less than is usual of class 0 (0.95).
    chances = np.array([[0.95, 0.05], [0.95, 0.05], [0.7, 0.3], [0.6, 0.4]])
    found = label_doubts(chances, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    assert found.usual == pytest.approx([0.95, 0.35]) and found.likely[3] == 0
    assert not found.contradicted[3]


def test_a_class_that_no_other_fold_holds_is_not_judged() -> None:
    labels = np.array([0, 0, 1, 2, 2, 0])
    folds = np.array([0, 1, 0, 1, 1, 2])
    assert known_elsewhere(labels, folds).tolist() == [True, True, False, False, False, True]
    chances = np.tile([0.98, 0.01, 0.01], (6, 1))
    found = label_doubts(chances, labels, folds)
    assert np.isnan(found.doubt[2:5]).all() and np.isnan(found.rank[2:5]).all() and np.isnan(found.usual[1:]).all()
    assert not found.contradicted.any(), "the models have never seen these classes: their verdict is none"


def test_a_class_that_is_never_recognised_has_no_label_more_doubtful_than_another() -> None:
    found = label_doubts(np.tile([1.0, 0.0], (4, 1)), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    assert found.doubt.tolist() == [0.5] * 4
    assert found.contradicted.tolist() == [False, False, True, True]


def test_no_labelled_image_is_no_error() -> None:
    nothing = np.zeros(0, np.int64)
    found = label_doubts(np.zeros((0, 3)), nothing, nothing)
    assert len(found.doubt) == len(found.contradicted) == 0


def test_equal_doubts_are_ranked_in_the_order_of_rows() -> None:
    assert ranks_within(np.array([0.5, 0.9, 0.5, np.nan]), np.array([0, 0, 0, 0]))[:3].tolist() == [2, 1, 3]
