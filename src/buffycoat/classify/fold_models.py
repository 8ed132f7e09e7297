"""A fold's trained model, and the images that it may judge."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from torch import nn

from buffycoat.classify.backbones import build_backbone
from buffycoat.classify.recipes import with_classifier
from buffycoat.classify.settings import TrainFold
from buffycoat.errors import InputError
from buffycoat.tables.images import decodable
from buffycoat.weights import read_weights


def load_fold_model(path: Path, codes: list[str], architecture: Path | None = None) -> tuple[nn.Module, TrainFold]:
    """Return the network of a fold with its weights, and its settings; raises InputError where its classes differ.

    `architecture`: a folder with the config.json of a backbone that was named by folder or hub id, in place of that.
    """
    weights, about = read_weights(path)
    settings = TrainFold.model_validate(about["settings"])
    if about["classes"] != codes:
        raise InputError(f"{path}: trained for the classes {about['classes']}, but the data has {codes}")
    count = len(codes)
    name = f"local-dir:{architecture}" if architecture else settings.backbone
    network = build_backbone(name, settings.backbone_options, None, count, settings.size_px, empty=True)
    network = with_classifier(network, about["recipe"], count, settings)
    network.load_state_dict(weights, strict=True)
    return network.eval(), settings


def judged_rows(images: pd.DataFrame, folds: pd.DataFrame, fold: int) -> pd.DataFrame:
    """Return image_id and out_of_fold: the images this fold held out, and those that no fold learns from."""
    rows = decodable(images)[["image_id"]].merge(folds, on="image_id", how="left")
    rows = rows[rows["fold"].isna() | (rows["fold"] == fold)].reset_index(drop=True)
    return rows.assign(out_of_fold=rows["fold"].notna())[["image_id", "out_of_fold"]]
