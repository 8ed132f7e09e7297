from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn import metrics as sk

from buffycoat.core.settings import Statistics
from buffycoat.report.compare_recipes import (
    Way,
    best_classes,
    one_view_of_all_folds,
    one_view_of_each_fold,
    score_single_folds,
    score_ways,
)
from buffycoat.stats.scores import COMPARED_SCORES

CODES = ["BA", "LY", "PC"]
STATISTICS = Statistics(resamples=200)


def labelled(n: int = 120, seed: int = 0) -> pd.DataFrame:
    """Return images of 20 patients with their labels, in two folds."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"image_id": [f"{k}" for k in range(n)], "true": rng.choice(CODES, n, p=[0.6, 0.3, 0.1])})
    return frame.assign(group=[f"p{k // 6}" for k in range(n)], fold=[k // 6 % 2 for k in range(n)])


def guess(rows: pd.DataFrame, right: float, seed: int) -> pd.Series:
    rng = np.random.default_rng(seed)
    numbers = rows["true"].map({code: k for k, code in enumerate(CODES)}).to_numpy()
    return pd.Series(np.where(rng.random(len(rows)) < right, numbers, rng.integers(0, 3, len(rows))), rows["image_id"])


def picked(found: list[dict[str, object]], **wanted: str) -> dict[str, object]:
    (entry,) = [row for row in found if all(row[key] == value for key, value in wanted.items())]
    return entry


def test_single_folds_are_mean_and_spread_of_each_model_on_its_own_images() -> None:
    rows = labelled()
    of_fold = {0: guess(rows, 0.8, 1), 1: guess(rows, 0.6, 2)}
    found = score_single_folds("out_of_fold", "focal", rows, of_fold, CODES)
    values = []
    for fold, numbers in of_fold.items():
        held = rows[rows["fold"] == fold]
        predicted = [CODES[k] for k in numbers[held["image_id"]]]
        values.append(sk.f1_score(held["true"], predicted, labels=CODES, average="macro", zero_division=0))
    entry = picked(found, metric="macro_f1")
    assert entry["value"] == pytest.approx(np.mean(values)) and entry["sd"] == pytest.approx(np.std(values, ddof=1))
    assert entry["low"] is None and entry["difference"] is None
    everywhere = picked(score_single_folds("test", "focal", rows, of_fold, CODES), metric="accuracy")
    truth = rows["true"].map({code: k for k, code in enumerate(CODES)}).to_numpy()
    both = [float((numbers.to_numpy() == truth).mean()) for numbers in of_fold.values()]
    assert everywhere["value"] == pytest.approx(np.mean(both))
    assert picked(score_single_folds("test", "focal", rows, {0: of_fold[0]}, CODES), metric="accuracy")["sd"] is None


def test_differences_are_paired_and_taken_from_the_first_way_with_all_views() -> None:
    rows = labelled()
    good, bad = guess(rows, 0.9, 1), guess(rows, 0.4, 2)
    ways = [Way("focal", "one_view", bad), Way("focal", "all_views", good), Way("ldam", "all_views", good.copy()),
            Way("crt", "all_views", bad)]  # fmt: skip
    found = score_ways("out_of_fold", rows, ways, CODES, 1, STATISTICS)
    for recipe in ("focal", "ldam"):
        same = picked(found, recipe=recipe, variant="all_views", metric="macro_f1")
        assert same["difference"] == same["difference_low"] == same["difference_high"] == 0
        assert same["low"] < same["value"] < same["high"]  # type: ignore[operator]
    worse = picked(found, recipe="crt", metric="macro_f1")
    main = picked(found, recipe="focal", variant="all_views", metric="macro_f1")
    assert worse["difference"] == pytest.approx(worse["value"] - main["value"])  # type: ignore[operator]
    assert worse["difference_low"] < worse["difference"] < worse["difference_high"] < 0  # type: ignore[operator]
    width = worse["difference_high"] - worse["difference_low"]  # type: ignore[operator]
    assert width < (main["high"] - main["low"]) + (worse["high"] - worse["low"])  # type: ignore[operator]
    one_view = picked(found, variant="one_view", metric="accuracy")
    assert one_view["value"] == picked(found, recipe="crt", metric="accuracy")["value"]


def test_scores_of_each_way_are_scikit_learns() -> None:
    rows = labelled()
    numbers = guess(rows, 0.7, 3)
    found = score_ways("test", rows, [Way("focal", "all_views", numbers)], CODES, 1, STATISTICS)
    predicted = [CODES[k] for k in numbers]
    overall = {entry["metric"]: entry["value"] for entry in found if entry["class"] == "all"}
    assert overall == {
        "accuracy": pytest.approx(sk.accuracy_score(rows["true"], predicted)),
        "balanced_accuracy": pytest.approx(sk.balanced_accuracy_score(rows["true"], predicted)),
        "macro_f1": pytest.approx(sk.f1_score(rows["true"], predicted, labels=CODES, average="macro")),
    }
    assert tuple(overall) == COMPARED_SCORES
    per_class = [entry["value"] for entry in found if entry["metric"] == "f1"]
    assert per_class == pytest.approx(sk.f1_score(rows["true"], predicted, labels=CODES, average=None))
    assert [entry["support"] for entry in found if entry["metric"] == "f1"] == [
        int((rows["true"] == code).sum()) for code in CODES
    ]


def test_one_view_is_the_image_as_it_is_and_the_mean_over_folds() -> None:
    values = {("a", 0, 0): [3.0, 0, 0], ("a", 1, 0): [0, 9.0, 0],
              ("t", 0, 0): [1.0, 0.9, 0], ("t", 0, 1): [0, 0.1, 6.0], ("t", 1, 0): [0, 0, 9.0]}  # fmt: skip
    logits = pd.DataFrame(list(values.values()), columns=CODES)
    logits[["image_id", "view", "fold"]] = pd.DataFrame(list(values), index=logits.index)
    each = one_view_of_each_fold(logits, CODES)
    assert each[0].to_dict() == {"a": 0, "t": 0} and each[1].to_dict() == {"t": 2}, "of (image, view, fold)"
    pooled = one_view_of_all_folds(logits, CODES, 1.0)
    assert pooled["a"] == 0
    assert pooled["t"] == int(softmax([[1.0, 0.9, 0], [0, 0.1, 6.0]], axis=1).mean(axis=0).argmax()) == 2
    # Two unsure folds outvote one that is very sure, unless the temperature lets logits count for what they are.
    unequal = [[20.0, 0, 0], [0, 1.5, 0], [0, 1.5, 0]]
    logits = pd.DataFrame(unequal, columns=CODES).assign(image_id="t", view=0, fold=[0, 1, 2])
    assert [one_view_of_all_folds(logits, CODES, temperature)["t"] for temperature in (1.0, 100.0)] == [1, 0]


def test_the_best_class_is_by_image() -> None:
    table = pd.DataFrame({"image_id": ["x", "y"], "BA": [0.2, 0.5], "LY": [0.7, 0.3], "PC": [0.1, 0.2]})
    assert best_classes(table, CODES).to_dict() == {"x": 1, "y": 0}
