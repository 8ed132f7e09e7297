"""Step `predict_fold`: one fold's logits, in eight views, for the images that its model may judge."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from buffycoat.classify.backbones import build_backbone, normalise
from buffycoat.classify.crops import Crops
from buffycoat.classify.recipes import with_classifier
from buffycoat.classify.settings import PredictFold, TrainFold
from buffycoat.core.errors import InputError
from buffycoat.core.progress import Progress
from buffycoat.core.settings import Runtime
from buffycoat.core.steps import run
from buffycoat.data.images import CellImages
from buffycoat.data.tables.classify import LOGITS
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, class_codes, decodable
from buffycoat.data.tables.restore import CELLS
from buffycoat.nets.batches import Prefetched, in_pieces
from buffycoat.nets.device import mixed_precision, pick_device, worth_compiling
from buffycoat.nets.weights import read_weights

log = logging.getLogger("buffycoat")
PREDICT_BATCH = 256
"""Images per forward pass; halved by itself where the GPU's memory does not suffice; ours."""


@dataclass(frozen=True)
class FoldModel:
    """What the predictions of one fold need."""

    fold: int
    network: nn.Module
    """Images (n, 3, S, S), normalised, to logits (n, K)."""
    trained: TrainFold
    """The settings that it was trained with: background and size S of its images."""
    codes: list[str]
    """The K classes, in the order of the logits."""
    settings: PredictFold
    """Views per image."""
    runtime: Runtime = Runtime()
    batch: int = PREDICT_BATCH
    """Images per forward pass."""


def view_of(images: Tensor, view: int) -> Tensor:
    """Return images (n, C, S, S) under element `view` of D4, 0..7: quarter turns, from 4 on mirrored first."""
    if not 0 <= view < 8:
        raise ValueError(f"view {view} is not an element of D4: 0..7")
    mirrored = images.flip(3) if view >= 4 else images
    return torch.rot90(mirrored, view % 4, (2, 3))


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
    network = with_classifier(network, about["recipe"], count)
    network.load_state_dict(weights, strict=True)
    return network.eval(), settings


def judged_rows(images: pd.DataFrame, folds: pd.DataFrame, fold: int) -> pd.DataFrame:
    """Return image_id and out_of_fold: the images this fold held out, and those that no fold learns from."""
    rows = decodable(images)[["image_id"]].merge(folds, on="image_id", how="left")
    rows = rows[rows["fold"].isna() | (rows["fold"] == fold)].reset_index(drop=True)
    return rows.assign(out_of_fold=rows["fold"].notna())[["image_id", "out_of_fold"]]


def predict_views(
    network: nn.Module, crops: Crops, positions: list[int], views: int, runtime: Runtime = Runtime(),
    batch: int = PREDICT_BATCH,
) -> np.ndarray:  # fmt: skip
    """Return logits (n, views, K) float32 of the crops at `positions`."""
    # Whoever predicts chunk by chunk comes with a network that is compiled already.
    if worth_compiling(runtime.compile, crops.device) and network._compiled_call_impl is None:
        network.compile()
    progress = Progress("predict_fold", len(positions))
    parts = []
    batches = Prefetched(lambda start: crops.pixels(positions[start : start + batch]), range(0, len(positions), batch))

    def forward(pixels: Tensor) -> Tensor:
        images = normalise(crops.as_images(pixels), network)
        seen = [network(view_of(images, view)) for view in range(views)]
        # One copy per batch: each makes the GPU wait for the CPU.
        return torch.stack(seen, dim=1).float().cpu()

    size = batch
    with torch.inference_mode(), mixed_precision(crops.device, runtime.bf16_on_cpu):
        for pixels in batches:
            made, size = in_pieces(forward, pixels, size, "classify.predict_fold")
            parts.append(made)
            progress.step(len(made))
    stacked: np.ndarray = torch.cat(parts).numpy()
    return stacked


def logits_table(values: np.ndarray, rows: pd.DataFrame, fold: int, codes: list[str]) -> pd.DataFrame:
    """Return the table of logits of values (n, views, K) of `rows`, which have image_id and out_of_fold."""
    views = values.shape[1]
    table = pd.DataFrame(values.reshape(-1, len(codes)), columns=codes)
    table.insert(0, "image_id", np.repeat(rows["image_id"].to_numpy(object), views))
    table.insert(1, "view", np.tile(np.arange(views), len(rows)))
    table.insert(2, "fold", fold)
    table.insert(3, "out_of_fold", np.repeat(rows["out_of_fold"].to_numpy(), views))
    return table


def apply(rows: pd.DataFrame, model: FoldModel, cells: CellImages) -> pd.DataFrame:
    """Return the fold's logits (table LOGITS) of the rows, which have image_id and out_of_fold: a row per view.

    Parameters: cells, pixels of at least these images, in any order. Leaves the network on the device.
    """
    crops = Crops(cells, model.trained.background, model.trained.size_px, pick_device())
    network = model.network.to(crops.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    positions = crops.positions(rows["image_id"])
    values = predict_views(network, crops, positions, model.settings.views, model.runtime, model.batch)
    return logits_table(values, rows, model.fold, model.codes)


def predict_fold(
    *, images: Path, classes: Path, folds: Path, cells: Path, model: Path, fold: int, recipe: str, logits: Path,
    settings: PredictFold, runtime: Runtime = Runtime(),
) -> None:  # fmt: skip
    """Predict the held-out images and all that no fold learns from; write one row per image and view."""
    codes = class_codes(CLASSES.read(classes))
    network, trained = load_fold_model(model, codes)
    rows = judged_rows(IMAGES.read(images), FOLDS.read(folds), fold)
    cell_images = CellImages(CELLS.read(cells), cells)
    LOGITS.write(apply(rows, FoldModel(fold, network, trained, codes, settings, runtime), cell_images), logits)


if __name__ == "__main__":
    run(predict_fold)
