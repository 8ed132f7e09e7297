from __future__ import annotations

from typing import Any

import pytest

from buffycoat.report.sections import calibration_words, training_words


def words(recipe: str = "focal", **settings: Any) -> dict[str, Any]:
    return training_words({"classify": {"recipe": recipe, "train_fold": {"choose": "last", "ema": 0.0, **settings}}})


def test_the_rule_of_the_kept_epoch_is_written_out() -> None:
    assert "last epoch" in words()["kept"] and "EMA" not in words()["kept"] and not words()["optimistic"]
    assert words(ema=0.99)["kept"].endswith("weights are averaged over the steps (EMA, decay 0.99)")
    best = words(choose="best")
    assert best["optimistic"] and "optimistic" in best["kept"] and "no say" not in best["kept"]


@pytest.mark.parametrize("recipe", ["crt", "logit_adjustment"])
def test_a_recipe_that_starts_from_another_says_so(recipe: str) -> None:
    assert "starts from cross_entropy's model of the same fold" in words(recipe)["kept"]
    assert "starts from" not in words("cross_entropy")["kept"]


def test_a_configuration_without_branch_a_is_told_nothing() -> None:
    assert training_words({}) == {"recipe": "", "kept": "", "optimistic": False}


def test_a_recipe_is_told_without_marks() -> None:
    assert words()["recipe"] == "focal: focal loss, re-balanced as imbalance says"
    assert words("of my own")["recipe"] == "of my own"


def found(fitted: bool, error: float | None) -> dict[str, Any]:
    honesty: dict[str, Any] = {"expected_calibration_error": error, "negative_log_likelihood": error, "bins": []}
    by_fold = {str(k): {"temperature": 1.0 + k / 10, "fitted_on": 9, "images": 1} for k in (10, 2)}
    return {"fitted": fitted, "temperature": 1.23456, "by_fold": by_fold, "images": 10, "binning": "15 bins; x",
            "before": honesty, "after": honesty}  # fmt: skip


def test_temperatures_are_told_in_the_order_of_the_folds() -> None:
    told = calibration_words(found(True, 0.12345))
    assert [(row["fold"], row["temperature"]) for row in told["by_fold"]] == [("2", "1.200"), ("10", "2.000")]
    assert told["temperature"] == "1.235" and [line["error"] for line in told["lines"]] == ["0.1235"] * 2


def test_without_a_temperature_there_is_only_before() -> None:
    told = calibration_words(found(False, None))
    assert [line["name"] for line in told["lines"]] == ["logits as they are"] and told["lines"][0]["error"] == "–"
