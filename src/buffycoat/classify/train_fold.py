"""Step `train_fold`: one fold of branch A; continues an interrupted run."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from buffycoat.classify.backbones import normalise
from buffycoat.classify.data import Crops
from buffycoat.classify.fold_training import FoldTraining
from buffycoat.classify.imbalance import effective_share
from buffycoat.classify.settings import TrainFold
from buffycoat.device import mixed_precision, pick_device
from buffycoat.errors import InputError
from buffycoat.provenance import code_digest
from buffycoat.randomness import stream_seed
from buffycoat.steps import run
from buffycoat.tables.classes import CLASSES, class_codes
from buffycoat.tables.folds import FOLDS
from buffycoat.tables.images import IMAGES, trainable
from buffycoat.tables.schema import require_same_keys
from buffycoat.tables.training_history import TRAINING_HISTORY
from buffycoat.training import Checkpoint, fingerprint
from buffycoat.weights import write_weights

log = logging.getLogger("buffycoat")


def labelled_rows(images: Path, folds: Path, codes: list[str]) -> pd.DataFrame:
    """Return image_id, fold and class number of every trainable image."""
    rows = trainable(IMAGES.read(images))
    assigned = FOLDS.read(folds)
    require_same_keys(assigned["image_id"], rows["image_id"], str(folds))
    rows = rows.merge(assigned, on="image_id", validate="one_to_one")
    rows["number"] = rows["label"].map({code: number for number, code in enumerate(codes)}).astype("int64")
    return rows[["image_id", "fold", "number"]]


def judge(training: FoldTraining, held: pd.DataFrame, classes: int) -> tuple[float, float]:
    """Return (cross-entropy, macro-F1) of the judged network on held-out images, in one view."""
    from sklearn.metrics import f1_score

    network = training.judged.eval()
    logits = []
    positions = training.crops.positions(held["image_id"])
    with torch.inference_mode(), mixed_precision(training.device):
        for start in range(0, len(positions), 256):
            logits.append(network(normalise(training.crops.batch(positions[start : start + 256]))).float().cpu())
    stacked, labels = torch.cat(logits), torch.from_numpy(held["number"].to_numpy(copy=True))
    loss = float(torch.nn.functional.cross_entropy(stacked, labels))
    guessed = stacked.argmax(dim=1).numpy()
    score = f1_score(labels.numpy(), guessed, labels=list(range(classes)), average="macro", zero_division=0)
    return loss, float(score)


def log_imbalance(training: FoldTraining, codes: list[str]) -> None:
    """Log what share of the training signal each class has, and warn where sampler and loss both act."""
    settings = training.settings
    share = effective_share(training.counts, settings.sampler, settings.class_weights)
    shown = ", ".join(f"{code} {value:.3f}" for code, value in zip(codes, share, strict=True))
    log.info("share of the training signal: %s", shown)
    if settings.sampler != "none" and settings.class_weights != "none":
        log.warning("sampler '%s' and class weights '%s' multiply", settings.sampler, settings.class_weights)


def train(
    training: FoldTraining, held: pd.DataFrame, codes: list[str], fold: int, checkpoint: Checkpoint
) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:
    """Train to the last epoch, from the checkpoint where there is one; return the kept weights and the history."""
    settings = training.settings
    history: list[dict[str, Any]] = []
    best: dict[str, torch.Tensor] = {}
    if stored := checkpoint.load():
        training.load(stored["training"])
        history, best = stored["history"], stored["best"]
        log.info("continuing after epoch %d", len(history))
    for epoch in range(len(history), settings.epochs):
        started = time.monotonic()
        loss = training.run_epoch(epoch)
        rate = training.steps * min(settings.batch, len(training.ids)) / (time.monotonic() - started)
        held_loss, score = judge(training, held, len(codes))
        better = settings.choose == "last" or score > max((h["held_out_macro_f1"] for h in history), default=-1.0)
        if better and settings.choose == "best":
            best = {name: tensor.clone() for name, tensor in training.judged.state_dict().items()}
        history.append(
            {"fold": fold, "epoch": epoch + 1, "train_loss": loss, "held_out_loss": held_loss,
             "held_out_macro_f1": score, "images_per_s": rate, "kept": better}
        )  # fmt: skip
        log.info(
            "fold %d, epoch %d/%d: train loss %.4f, held-out loss %.4f, held-out macro-F1 %.4f, %.1f images/s",
            fold, epoch + 1, settings.epochs, loss, held_loss, score, rate,
        )  # fmt: skip
        checkpoint.save({"training": training.state(), "history": history, "best": best})
    frame = pd.DataFrame(history)
    frame["kept"] = frame["epoch"] == (frame.loc[frame["kept"], "epoch"].max())
    return best or training.judged.state_dict(), frame


def train_fold(
    *, images: Path, classes: Path, folds: Path, cells: Path, fold: int, recipe: str,
    model: Path, history: Path, seed: int, settings: TrainFold,
) -> None:  # fmt: skip
    """Train on all folds but `fold`; write the model, with all that prediction needs in its header, and the history."""
    codes = class_codes(CLASSES.read(classes))
    rows = labelled_rows(images, folds, codes)
    learned, held = rows[rows["fold"] != fold], rows[rows["fold"] == fold]
    if learned.empty or held.empty:
        raise InputError(f"{folds}: fold {fold} leaves {len(learned)} images to learn and {len(held)} to hold out")
    inputs = {"images": images, "classes": classes, "folds": folds, "cells": cells}
    if settings.weights not in (None, "embedded"):
        inputs["weights"] = Path(str(settings.weights))
    code = code_digest("buffycoat.classify.train_fold")
    stamp = fingerprint(settings, inputs, code, seed=seed, fold=fold, recipe=recipe)
    crops = Crops(cells, settings.background, settings.size_px, pick_device())
    training = FoldTraining(
        crops, learned["image_id"].tolist(), learned["number"].to_numpy(np.int64), len(codes), recipe,
        stream_seed(seed, "classify", fold), settings,
    )  # fmt: skip
    log_imbalance(training, codes)
    checkpoint = Checkpoint(model.with_name("checkpoint.safetensors"), stamp)
    weights, told = train(training, held, codes, fold, checkpoint)
    TRAINING_HISTORY.write(told, history)
    about = {"classes": codes, "fold": fold, "recipe": recipe, "settings": settings.model_dump(mode="json")}
    write_weights(weights, about, model)
    checkpoint.remove()


if __name__ == "__main__":
    run(train_fold)
