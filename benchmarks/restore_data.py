"""Cells and classifier of the benchmark of restoration: real crops, their parts, and what judges restored cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmarks.segmenter_data import DATA
from buffycoat.classify.backbones import build_backbone, normalise
from buffycoat.classify.crops import Crops
from buffycoat.classify.fold_training import FoldTraining
from buffycoat.classify.settings import TrainFold
from buffycoat.core.errors import InputError
from buffycoat.core.files import sha256_of, whole_file
from buffycoat.crop.crop_cells import crop_cells
from buffycoat.crop.settings import CropCells
from buffycoat.data.images import CellImages, Pixels, decode_image
from buffycoat.data.labels import labelled
from buffycoat.data.random import stream, stream_seed
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import IMAGES, LABELS, with_places
from buffycoat.data.tables.restore import CELLS, PAIRS
from buffycoat.nets.training import Checkpoint
from buffycoat.nets.weights import read_weights, write_weights

SEED = 1
HELD_OUT = 0.1
"""Share of the training crops that the restorers do not learn from; they are judged on, beside the test cells."""
CROP = CropCells(method="stain", window_px=280, size_px=128)
"""Window and size as in workflow/presets/laptop.yaml."""
CLASSIFIER = TrainFold(
    backbone="tf_efficientnet_lite0", weights="embedded", size_px=128, background="keep", frozen_stages=3, epochs=6,
    batch=32, learning_rate=1e-3, head_rate=2.0, warm_up=0.2, shift=0.06, rotation="any",
)  # fmt: skip
"""As in workflow/presets/laptop.yaml, with 6 epochs instead of 8."""


def data_folder() -> Path:
    """Return the folder of the real cells, with images.csv (image, label, split)."""
    folder = DATA / "pbc"
    if not (folder / "images.csv").is_file():
        raise InputError(f"{folder / 'images.csv'}: no such file; set BUFFYCOAT_DATA to the folder that holds pbc/")
    return folder


def listed_images() -> pd.DataFrame:
    """Return the table of images; `label` holds the expert's label of test images too, which the index would not."""
    folder = data_folder()
    rows = pd.read_csv(folder / "images.csv")
    shapes = [decode_image(folder / name).shape for name in rows["image"]]
    return pd.DataFrame(
        {
            "image_id": rows["image"],
            "path": [str(folder / name) for name in rows["image"]],
            "label": rows["label"],
            "role": rows["split"],
            "split": rows["split"],
            "group": None,
            "width": [shape[1] for shape in shapes],
            "height": [shape[0] for shape in shapes],
            "sha256": [sha256_of(folder / name) for name in rows["image"]],
            "status": "ok",
            "reason": "",
        }
    )


def write_index(rows: pd.DataFrame, folder: Path) -> None:
    """Write images.parquet and labels.parquet of sound images from one frame with the columns of both."""
    IMAGES.write(with_places(rows)[[column.name for column in IMAGES.columns]], folder / "images.parquet")
    LABELS.write(rows[[column.name for column in LABELS.columns]], folder / "labels.parquet")


def prepare(folder: Path) -> None:
    """Cut out all cells as the laptop preset does; write images, crops, pairs and cells below `folder`."""
    if (folder / "cells.parquet").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    images = listed_images()
    write_index(images, folder)
    crops = folder / "crops.parquet"
    crop_cells(images=folder / "images.parquet", crops=crops, shards=folder / "shards", settings=CROP)
    # The crops count as the source: they are degraded at their own size, so there is no window to shrink.
    table = CROPS.read(crops).assign(window_px=CROP.size_px)
    CROPS.write(table, crops)
    train = images[images["role"] == "train"]
    held = stream(SEED, "benchmark", "held out").random(len(train)) < HELD_OUT
    part = np.where(held, "held_out", "fit")
    PAIRS.write(pd.DataFrame({"image_id": train["image_id"], "part": part}), folder / "pairs.parquet")
    cells = table[["image_id", "shard", "shard_row", "crc32"]].assign(
        restored=False, noise_before=0.0, noise_after=np.nan, nucleus_change=np.nan, cell_change=np.nan, reason="clean"
    )
    CELLS.write(cells, folder / "cells.parquet")


def cells_of(folder: Path, part: str) -> tuple[list[str], Pixels, Pixels, np.ndarray]:
    """Return ids, crops (n, S, S, 3), masks (n, S, S) and labels of the part: fit, held_out, train or test."""
    crops = folder / "crops.parquet"
    known = labelled(IMAGES.read(folder / "images.parquet"), LABELS.read(folder / "labels.parquet"))
    frame = CROPS.read(crops).merge(known[["image_id", "label", "role"]])
    frame = frame.merge(PAIRS.read(folder / "pairs.parquet"), on="image_id", how="left")
    frame = frame[frame["role" if part in ("train", "test") else "part"] == part].reset_index(drop=True)
    images = CellImages(frame, crops)
    everything = range(len(images))
    return images.ids, images.crops(everything), images.masks(everything), frame["label"].to_numpy(object)


def train_classifier(folder: Path) -> Path:
    """Train the classifier on clean training crops, continuing after a finished epoch; return its weights file."""
    weights = folder / "classifier.safetensors"
    if weights.exists():
        return weights
    ids, _, _, labels = cells_of(folder, "train")
    codes = sorted(set(labels))
    numbers = np.array([codes.index(label) for label in labels], np.int64)
    crops = Crops.read(folder / "cells.parquet", CLASSIFIER.background, CLASSIFIER.size_px, torch.device("cpu"))
    seed = stream_seed(SEED, "benchmark", "classifier")
    training = FoldTraining(crops, ids, numbers, len(codes), "cross_entropy", seed, CLASSIFIER)
    checkpoint = Checkpoint(folder / "classifier_checkpoint.safetensors", CLASSIFIER.model_dump_json())
    stored = checkpoint.load()
    done = 0
    if stored:
        training.load(stored["training"])
        done = stored["done"]
    for epoch in range(done, CLASSIFIER.epochs):
        loss = training.run_epoch(epoch)
        print(f"classifier, epoch {epoch + 1}: loss {loss:.4f}", flush=True)
        checkpoint.save({"training": training.state(), "done": epoch + 1})
    about = {"settings": CLASSIFIER.model_dump(mode="json"), "classes": codes}
    write_weights(training.judged.state_dict(), about, weights)
    checkpoint.remove()
    return weights


def load_classifier(folder: Path) -> tuple[nn.Module, list[str]]:
    """Return the trained classifier and its classes."""
    weights, about = read_weights(folder / "classifier.safetensors")
    settings = TrainFold.model_validate(about["settings"])
    network = build_backbone(settings.backbone, settings.backbone_options, None, len(about["classes"]))
    network.load_state_dict(weights)
    return network.eval(), about["classes"]


def predicted(network: nn.Module, crops: Pixels, batch: int = 64) -> np.ndarray:
    """Return the class number (n,) of each crop (n, S, S, 3), in one view."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(crops), batch):
            part = np.ascontiguousarray(crops[start : start + batch].transpose(0, 3, 1, 2))
            found.append(network(normalise(torch.from_numpy(part).float() / 255)).argmax(dim=1).numpy())
    return np.concatenate(found)


def save_arrays(path: Path, **arrays: Any) -> None:
    """Write arrays to an .npz file, whole or not at all."""
    with whole_file(path) as partial, partial.open("wb") as stream_out:
        np.savez(stream_out, **arrays)
