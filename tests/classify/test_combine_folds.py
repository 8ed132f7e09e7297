from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from buffycoat.classify.combine_folds import combine_folds, mean_probabilities, softmax
from buffycoat.classify.settings import CombineFolds
from buffycoat.errors import InputError
from buffycoat.tables.logits import LOGITS
from buffycoat.tables.probabilities import PROBABILITIES
from tests.classify.cases import predict, train


def test_prediction_and_combination_keep_every_row(dataset: Path) -> None:
    paths = [predict(dataset, train(dataset, "run", fold), fold) for fold in (0, 1)]
    combine_folds(
        images=dataset / "images.parquet", classes=dataset / "classes.parquet", folds=dataset / "folds.parquet",
        logits=paths, probabilities=dataset / "p.parquet", settings=CombineFolds(),
    )  # fmt: skip
    table = PROBABILITIES.read(dataset / "p.parquet")
    assert table["image_id"].tolist() == [str(k) for k in range(34)]
    assert table["source"].tolist() == ["out_of_fold"] * 30 + ["fold_mean"] * 4
    assert np.allclose(table[["BA", "LY", "PC"]].sum(axis=1), 1, atol=1e-12)
    both = pd.concat([LOGITS.read(path) for path in paths])
    one = both[both["image_id"] == "31"][["BA", "LY", "PC"]].to_numpy()
    assert one.shape == (16, 3)
    assert np.allclose(table[table["image_id"] == "31"][["BA", "LY", "PC"]], softmax(one).mean(axis=0))


def test_logits_of_a_fold_that_learned_the_image_are_refused(dataset: Path) -> None:
    path = predict(dataset, train(dataset, "run", 0), 0, views=1)
    LOGITS.write(LOGITS.read(path).assign(fold=1), path)
    with pytest.raises(InputError, match="a fold that learned it"):
        combine_folds(
            images=dataset / "images.parquet", classes=dataset / "classes.parquet", folds=dataset / "folds.parquet",
            logits=[path], probabilities=dataset / "p.parquet", settings=CombineFolds(),
        )  # fmt: skip


def test_softmax_is_stable_and_means_sum_to_one() -> None:
    assert softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]])).tolist() == [[1, 0], [0.5, 0.5]]
    frame = pd.DataFrame({"image_id": ["a", "a"], "out_of_fold": [True, True], "BA": [0.0, 2.0], "LY": [0.0, -1.0]})
    mean = mean_probabilities(frame, ["BA", "LY"])
    expected = (0.5 + 1 / (1 + math.exp(-3))) / 2
    assert mean["BA"].item() == pytest.approx(expected) and mean["BA"].item() + mean["LY"].item() == pytest.approx(1)
