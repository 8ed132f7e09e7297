from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from buffycoat.classify.crops import Crops
from buffycoat.classify.predict_fold import judged_rows, load_fold_model, predict_views, view_of
from buffycoat.classify.train_fold import judge
from buffycoat.core.errors import InputError
from buffycoat.data.labels import learned_rows
from buffycoat.data.tables.classify import LOGITS
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, LABELS
from tests.classify.cases import predict, train

CODES = ["BA", "LY", "PC"]


def test_each_fold_predicts_what_it_held_out_and_what_nobody_learns(dataset: Path) -> None:
    rows = judged_rows(IMAGES.read(dataset / "images.parquet"), FOLDS.read(dataset / "folds.parquet"), 1)
    assert set(rows.loc[rows["out_of_fold"], "image_id"]) == {str(k) for k in range(1, 30, 2)}
    assert set(rows.loc[~rows["out_of_fold"], "image_id"]) == {"30", "31", "32", "33"}


def test_logits_are_stored_per_image_and_view(dataset: Path) -> None:
    table = LOGITS.read(predict(dataset, train(dataset, "run"), 0))
    assert len(table) == (15 + 4) * 8 and (table.groupby("image_id")["view"].nunique() == 8).all()
    assert (table["fold"] == 0).all() and table["out_of_fold"].sum() == 15 * 8


def test_a_views_logits_are_those_of_the_turned_image(dataset: Path) -> None:
    model = train(dataset, "run") / "model.safetensors"
    network, trained = load_fold_model(model, CODES)
    crops = Crops.read(dataset / "cells.parquet", trained.background, trained.size_px, torch.device("cpu"))
    values = predict_views(network, crops, [3, 8], views=8, batch=1)
    from buffycoat.classify.backbones import normalise

    images = normalise(crops.batch([3, 8]), network)
    with torch.inference_mode():
        expected = torch.stack([network(view_of(images, view)) for view in range(8)], dim=1)
    assert np.allclose(values, expected.numpy(), atol=1e-5)


def test_the_history_tells_the_score_of_the_stored_model(dataset: Path) -> None:
    model = train(dataset, "run") / "model.safetensors"
    network, trained = load_fold_model(model, CODES)
    crops = Crops.read(dataset / "cells.parquet", trained.background, trained.size_px, torch.device("cpu"))
    rows = learned_rows(
        IMAGES.read(dataset / "images.parquet"), LABELS.read(dataset / "labels.parquet"),
        FOLDS.read(dataset / "folds.parquet"), CODES,
    )  # fmt: skip
    loss, score = judge(network, crops, rows[rows["fold"] == 0], 3)
    from buffycoat.data.tables.classify import TRAINING_HISTORY

    last = TRAINING_HISTORY.read(model.parent / "history.parquet").iloc[-1]
    assert (loss, score) == pytest.approx((last["held_out_loss"], last["held_out_macro_f1"]))


def test_a_model_of_other_classes_is_refused(dataset: Path) -> None:
    out = train(dataset, "run")
    classes = CLASSES.read(dataset / "classes.parquet").assign(position=[1, 0, 2]).sort_values("position")
    CLASSES.write(classes.reset_index(drop=True), dataset / "classes.parquet")
    with pytest.raises(InputError, match=r"model\.safetensors: trained for the classes"):
        predict(dataset, out, 0)
