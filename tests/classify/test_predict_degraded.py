from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from buffycoat.classify.crops import Crops
from buffycoat.classify.predict_degraded import clean_held_out, degraded_pixels, predict_degraded, predict_kinds
from buffycoat.classify.predict_fold import load_fold_model
from buffycoat.classify.settings import PredictDegraded
from buffycoat.core.errors import InputError
from buffycoat.data.degradations import DEGRADATIONS
from buffycoat.data.images import BACKGROUND
from buffycoat.data.tables.classify import DEGRADED, LOGITS
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES
from buffycoat.data.tables.partition import NOISE
from tests.classify.cases import inputs, predict, train

CPU = torch.device("cpu")


def write_noise(folder: Path, noisy: set[str]) -> Path:
    """Write the table of noise of the data set's 34 crops; those named are noisy."""
    ids = [f"{k}" for k in range(34)]
    table = pd.DataFrame({"image_id": ids, "noisy": [name in noisy for name in ids]})
    for column in NOISE.columns:
        if column.name not in table:
            table[column.name] = False if str(column.type) == "bool" else "" if str(column.type) == "string" else 1.0
    NOISE.write(table, folder / "noise.parquet")
    return folder / "noise.parquet"


def degrade(folder: Path, model: Path, fold: int = 0, out: str = "degraded", **settings: object) -> pd.DataFrame:
    predict_degraded(
        **inputs(folder), noise=write_noise(folder, {"2", "31"}), model=model / "model.safetensors", fold=fold,
        degraded=folder / f"{out}.parquet", seed=1, settings=PredictDegraded.model_validate(settings),
    )  # fmt: skip
    return DEGRADED.read(folder / f"{out}.parquet")


def test_only_clean_images_that_the_fold_held_out_are_judged(dataset: Path) -> None:
    noise = NOISE.read(write_noise(dataset, {"2", "31"}))
    ids = clean_held_out(IMAGES.read(dataset / "images.parquet"), FOLDS.read(dataset / "folds.parquet"), noise, 0)
    assert set(ids) == {f"{k}" for k in range(0, 30, 2)} - {"2"}


def test_each_image_is_judged_as_it_is_and_under_each_kind_and_severity(dataset: Path) -> None:
    out = train(dataset, "run")
    table = degrade(dataset, out, severities=[1.0, 4.0])
    assert table.groupby(["kind", "severity"]).size().to_dict() == {
        ("none", 0.0): 14, **{(kind, severity): 14 for kind in DEGRADATIONS for severity in (1.0, 4.0)},
    }  # fmt: skip
    assert (table["fold"] == 0).all()
    logits = LOGITS.read(predict(dataset, out, 0, views=1)).set_index("image_id")[["BA", "LY", "PC"]]
    plain = table[table["kind"] == "none"].set_index("image_id")["label"]
    assert (logits.loc[plain.index].idxmax(axis=1) == plain).all()


def test_the_batch_changes_nothing_and_the_same_comes_again(dataset: Path) -> None:
    network, _ = load_fold_model(train(dataset, "run") / "model.safetensors", ["BA", "LY", "PC"])
    crops = Crops.read(dataset / "cells.parquet", "keep", 32, CPU)
    first, second = (predict_kinds(network, crops, list(range(14)), 1, (1.0,), batch=batch) for batch in (14, 3))
    assert list(first) == [("none", 0.0), *((kind, 1.0) for kind in DEGRADATIONS)]
    assert all(np.array_equal(numbers, second[way]) for way, numbers in first.items())


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_more_severity_takes_pixels_further_and_none_leaves_them(dataset: Path, kind: str) -> None:
    crops = Crops.read(dataset / "cells.parquet", "keep", 32, CPU)
    plain = degraded_pixels(crops, [0, 5], "none", 0.0, 1).float()
    assert torch.equal(plain, crops.pixels([0, 5]).float())
    away = [(degraded_pixels(crops, [0, 5], kind, severity, 1).float() - plain).abs().mean() for severity in (2, 3, 4)]
    assert 0 < away[0] < away[1] < away[2]


def test_an_images_degradation_is_its_own_whatever_is_beside_it(dataset: Path) -> None:
    crops = Crops.read(dataset / "cells.parquet", "keep", 32, CPU)
    both = degraded_pixels(crops, [0, 5], "salt_and_pepper", 2.0, 1)
    alone = degraded_pixels(crops, [5], "salt_and_pepper", 2.0, 1)
    assert torch.equal(both[1], alone[0])
    assert not torch.equal(degraded_pixels(crops, [5], "salt_and_pepper", 2.0, 2), alone)


def test_the_background_stays_white_where_it_is_taken_away(dataset: Path) -> None:
    crops = Crops.read(dataset / "cells.parquet", "white", 32, CPU)
    mask = np.asarray(crops.images.mask(0)) == BACKGROUND
    pixels = degraded_pixels(crops, [0], "illumination", 4.0, 1)[0].numpy()
    assert (pixels[mask] == 255).all()


def test_a_model_of_other_classes_is_refused(dataset: Path) -> None:
    out = train(dataset, "run")
    classes = CLASSES.read(dataset / "classes.parquet").assign(position=[1, 0, 2]).sort_values("position")
    CLASSES.write(classes.reset_index(drop=True), dataset / "classes.parquet")
    with pytest.raises(InputError, match=r"model\.safetensors: trained for the classes"):
        degrade(dataset, out)


@pytest.mark.parametrize("severities", [[], [0.0], [5.0], [1.0, 1.0]])
def test_severities_are_checked(severities: list[float]) -> None:
    with pytest.raises(ValidationError):
        PredictDegraded.model_validate({"severities": severities})
