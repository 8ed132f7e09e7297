from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from buffycoat.classify.combine_folds import (
    combine_folds,
    ensemble_of,
    mean_probabilities,
    temperatures_of,
    true_numbers,
)
from buffycoat.classify.settings import CombineFolds
from buffycoat.core.errors import InputError
from buffycoat.core.files import read_json
from buffycoat.data.tables.classify import LOGITS, PROBABILITIES
from tests.classify.cases import predict, train


def test_prediction_and_combination_keep_every_row(dataset: Path) -> None:
    paths = [predict(dataset, train(dataset, "run", fold), fold) for fold in (0, 1)]
    combine_folds(
        images=dataset / "images.parquet", labels=dataset / "labels.parquet",
        classes=dataset / "classes.parquet", folds=dataset / "folds.parquet",
        logits=paths, probabilities=dataset / "p.parquet", calibration=dataset / "c.json",
        settings=CombineFolds(temperature="none"),
    )  # fmt: skip
    table = PROBABILITIES.read(dataset / "p.parquet")
    assert table["image_id"].tolist() == [str(k) for k in range(34)]
    assert table["source"].tolist() == ["out_of_fold"] * 30 + ["fold_mean"] * 4
    assert np.allclose(table[["BA", "LY", "PC"]].sum(axis=1), 1, atol=1e-12)
    both = pd.concat([LOGITS.read(path) for path in paths])
    one = both[both["image_id"] == "31"][["BA", "LY", "PC"]].to_numpy()
    assert one.shape == (16, 3)
    assert np.allclose(table[table["image_id"] == "31"][["BA", "LY", "PC"]], softmax(one, axis=1).mean(axis=0))


def test_logits_of_a_fold_that_learned_the_image_are_refused(dataset: Path) -> None:
    path = predict(dataset, train(dataset, "run", 0), 0, views=1)
    LOGITS.write(LOGITS.read(path).assign(fold=1), path)
    with pytest.raises(InputError, match="a fold that learned it"):
        combine_folds(
            images=dataset / "images.parquet", labels=dataset / "labels.parquet",
            classes=dataset / "classes.parquet", folds=dataset / "folds.parquet",
            logits=[path], probabilities=dataset / "p.parquet", calibration=dataset / "c.json",
            settings=CombineFolds(),
        )  # fmt: skip


def test_rows_are_scaled_by_the_temperature_of_other_folds_or_of_all(dataset: Path) -> None:
    paths = [predict(dataset, train(dataset, "run", fold), fold, views=2) for fold in (0, 1)]
    given = {
        "images": dataset / "images.parquet", "labels": dataset / "labels.parquet",
        "classes": dataset / "classes.parquet",
        "folds": dataset / "folds.parquet", "logits": paths,
    }  # fmt: skip
    for name in ("none", "fitted"):
        out = {"probabilities": dataset / f"{name}.parquet", "calibration": dataset / f"{name}.json"}
        combine_folds(**given, **out, settings=CombineFolds(temperature=name))  # type: ignore[arg-type]
    none = read_json(dataset / "none.json")
    assert not none["fitted"] and none["temperature"] == 1 and none["after"] == none["before"]
    found = read_json(dataset / "fitted.json")
    assert found["images"] == 30 and set(found["by_fold"]) == {"0", "1"} and found["before"] == none["before"]
    table = PROBABILITIES.read(dataset / "fitted.parquet").set_index("image_id")[["BA", "LY", "PC"]]
    both = pd.concat([LOGITS.read(path) for path in paths])
    for image, temperature in (
        ("0", found["by_fold"]["0"]["temperature"]),
        ("1", found["by_fold"]["1"]["temperature"]),
        ("31", found["temperature"]),
    ):
        rows = both[both["image_id"] == image][["BA", "LY", "PC"]].to_numpy(np.float64)
        assert np.allclose(table.loc[image], softmax(rows / temperature, axis=1).mean(axis=0))


def test_temperatures_by_row() -> None:
    logits = pd.DataFrame({"fold": [0, 1, 0], "out_of_fold": [True, True, False]})
    found = {"by_fold": {"0": {"temperature": 2.0}, "1": {"temperature": 3.0}}, "temperature": 5.0}
    assert temperatures_of(logits, ensemble_of(["BA"], found)).tolist() == [2, 3, 5]


def test_only_labels_that_may_be_learned_from_are_used() -> None:
    images = pd.DataFrame({"image_id": ["a", "b", "c"], "role": ["train", "test", "train"], "status": "ok"})
    labels = pd.DataFrame(
        {"image_id": ["a", "b", "c"], "label": ["LY", "BA", "BA"], "status": ["ok", "ok", "duplicate"]}
    )
    assert true_numbers(images, labels.assign(reason="", group=None), ["BA", "LY"]).to_dict() == {"a": 1}


def test_means_are_stable_and_sum_to_one() -> None:
    frame = pd.DataFrame({"image_id": ["a", "a"], "out_of_fold": [True, True], "BA": [0.0, 2.0], "LY": [0.0, -1.0]})
    mean = mean_probabilities(frame, ["BA", "LY"], np.ones(2))
    expected = (0.5 + 1 / (1 + math.exp(-3))) / 2
    assert mean["BA"].item() == pytest.approx(expected) and mean["BA"].item() + mean["LY"].item() == pytest.approx(1)
    wild = pd.DataFrame({"image_id": ["a"], "out_of_fold": [True], "BA": [9000.0], "LY": [-9000.0]})
    assert mean_probabilities(wild, ["BA", "LY"], np.ones(1))[["BA", "LY"]].to_numpy().tolist() == [[1, 0]]
