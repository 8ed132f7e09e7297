from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from buffycoat.stats.scores import (
    class_intervals,
    class_scores,
    cluster_matrices,
    confusion,
    interval,
    overall_scores,
    resample,
    resampled_scores,
    score_intervals,
)


def guesses(n: int = 400, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.choice(classes - 1, n, p=[0.7, 0.25, 0.05])
    return true, np.where(rng.random(n) < 0.7, true, rng.integers(0, classes, n))


def test_scores_are_scikit_learns_with_an_explicit_class_list() -> None:
    true, predicted = guesses()
    matrix = confusion(true, predicted, 4)
    labels = [0, 1, 2, 3]
    assert np.array_equal(matrix, sk.confusion_matrix(true, predicted, labels=labels))
    options = {"labels": labels, "average": "macro", "zero_division": 0}
    scores = overall_scores(matrix)
    assert scores["macro_f1"] == pytest.approx(sk.f1_score(true, predicted, **options))
    assert scores["macro_precision"] == pytest.approx(sk.precision_score(true, predicted, **options))
    assert scores["accuracy"] == pytest.approx(sk.accuracy_score(true, predicted))
    with pytest.warns(UserWarning, match="not in y_true"):
        assert scores["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(true, predicted))
    per_class = class_scores(matrix)
    assert per_class["f1"] == pytest.approx(sk.f1_score(true, predicted, labels=labels, average=None, zero_division=0))
    recalls = sk.recall_score(true, predicted, labels=labels, average=None, zero_division=0)
    assert per_class["recall"] == pytest.approx(recalls)
    ones = [sk.recall_score(true != k, predicted != k) for k in labels]
    assert per_class["specificity"] == pytest.approx(ones)
    assert scores["macro_specificity"] == pytest.approx(np.mean(ones))


def test_an_absent_class_counts_zero_in_macro_f1() -> None:
    perfect = np.diag([5.0, 5.0, 0.0])
    assert overall_scores(perfect)["macro_f1"] == pytest.approx(2 / 3)
    assert overall_scores(perfect)["balanced_accuracy"] == 1
    assert overall_scores(perfect, np.array([True, True, False]))["macro_f1"] == 1


def test_scores_work_on_stacks() -> None:
    stack = np.stack([confusion(*guesses(seed=seed), 4) for seed in range(5)])
    for name, values in overall_scores(stack).items():
        assert values == pytest.approx([float(overall_scores(matrix)[name]) for matrix in stack])


def test_cluster_matrices_add_up() -> None:
    true, predicted = guesses()
    clusters = np.random.default_rng(1).integers(0, 30, len(true))
    parts = cluster_matrices(true, predicted, clusters, 4)
    assert np.array_equal(parts.sum(axis=0).reshape(4, 4), confusion(true, predicted, 4))
    one = clusters == 7
    assert np.array_equal(parts[7].reshape(4, 4), confusion(true[one], predicted[one], 4))


def drawn(true: np.ndarray, predicted: np.ndarray, clusters: np.ndarray, seed: int = 1) -> np.ndarray:
    return resample([cluster_matrices(true, predicted, clusters, 4)], 600, seed, "test")[0]


def test_a_resample_holds_as_many_clusters_as_there_are() -> None:
    true, predicted = guesses()
    matrices = drawn(true, predicted, np.arange(len(true)))
    assert matrices.shape == (600, 4, 4) and (matrices.sum(axis=(1, 2)) == len(true)).all()
    assert np.array_equal(matrices, drawn(true, predicted, np.arange(len(true))))
    assert not np.array_equal(matrices, drawn(true, predicted, np.arange(len(true)), seed=2))


def test_the_interval_holds_the_score_and_shrinks_with_more_images() -> None:
    widths = []
    for n in (100, 1600):
        true, predicted = guesses(n)
        low, high = score_intervals(drawn(true, predicted, np.arange(n)), np.bincount(true, minlength=4) > 0)[
            "accuracy"
        ]
        score = float(overall_scores(confusion(true, predicted, 4))["accuracy"])
        assert low < score < high
        widths.append(high - low)
        # For a share the width is known.
        assert high - low == pytest.approx(2 * 1.96 * np.sqrt(score * (1 - score) / n), rel=0.2)
    assert widths[1] < 0.35 * widths[0]


def test_correlated_cells_of_a_patient_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(40), 25)
    true = rng.integers(0, 2, 1000)
    right = rng.random(40)[patients] < 0.7
    predicted = np.where(right, true, 1 - true)
    present = np.array([True, True, False, False])
    by_image = score_intervals(drawn(true, predicted, np.arange(1000)), present)["accuracy"]
    by_patient = score_intervals(drawn(true, predicted, patients), present)["accuracy"]
    assert by_patient[1] - by_patient[0] > 2 * (by_image[1] - by_image[0])


def test_differences_are_paired() -> None:
    true, predicted = guesses()
    parts = cluster_matrices(true, predicted, np.arange(len(true)), 4)
    better = predicted.copy()
    better[:20] = true[:20]
    improved = cluster_matrices(true, better, np.arange(len(true)), 4)
    same, again, up = resample([parts, parts, improved], 300, 1, "x")
    present = np.bincount(true, minlength=4) > 0
    scores = [resampled_scores(matrices, present)["accuracy"] for matrices in (same, again, up)]
    assert np.array_equal(scores[0], scores[1])
    low, high = interval(scores[2] - scores[0], 0.95)
    assert 0 <= low and high < 0.1


def test_a_class_missed_by_a_resample_is_not_counted_as_a_mistake() -> None:
    # One image of class 1, always right: drawn or not, every resample is perfect.
    true = np.array([0] * 30 + [1])
    matrices = drawn(true, true, np.arange(31))
    present = np.array([True, True, False, False])
    macro = resampled_scores(matrices, present)["macro_f1"]
    assert (matrices[:, 1].sum(axis=1) == 0).any()
    with_class = matrices[:, 1].sum(axis=1) > 0
    assert macro[with_class] == pytest.approx(2 / 4) and macro[~with_class] == pytest.approx(1 / 3)
    assert class_intervals(matrices)["recall"][1] == (1, 1)
    assert class_intervals(matrices)["recall"][3] == (0, 0)
