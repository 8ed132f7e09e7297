"""Step `train_fold`: one fold of branch A; continues an interrupted run."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from buffycoat.classify.backbones import build_backbone, classifier_names, normalise, weights_file
from buffycoat.classify.crops import Crops
from buffycoat.classify.fold_training import FoldTraining
from buffycoat.classify.recipes import (
    TAU,
    adjusted_biases,
    both_act,
    draw_factors,
    effective_share,
    epochs_of,
    linear_classifier,
    log_frequencies,
    weights_of,
)
from buffycoat.classify.settings import TrainFold
from buffycoat.core.errors import InputError
from buffycoat.core.provenance import code_digest
from buffycoat.core.settings import Runtime
from buffycoat.core.steps import run
from buffycoat.data.labels import learned_rows
from buffycoat.data.methods import BODY_OF
from buffycoat.data.random import stream_seed
from buffycoat.data.tables.classify import TRAINING_HISTORY
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, LABELS, class_codes
from buffycoat.nets.device import mixed_precision, pick_device
from buffycoat.nets.training import Checkpoint, Safekeeping, fingerprint
from buffycoat.nets.weights import read_weights, write_weights

log = logging.getLogger("buffycoat")


def judge(network: nn.Module, crops: Crops, held: pd.DataFrame, classes: int) -> tuple[float, float]:
    """Return (cross-entropy, macro-F1) of a network on held-out images, in one view."""
    from sklearn.metrics import f1_score

    network.eval()
    logits = []
    positions = crops.positions(held["image_id"])
    with torch.inference_mode(), mixed_precision(crops.device):
        for start in range(0, len(positions), 256):
            logits.append(network(normalise(crops.batch(positions[start : start + 256]), network)).float().cpu())
    stacked, labels = torch.cat(logits), torch.from_numpy(held["number"].to_numpy(copy=True))
    loss = float(torch.nn.functional.cross_entropy(stacked, labels))
    guessed = stacked.argmax(dim=1).numpy()
    score = f1_score(labels.numpy(), guessed, labels=list(range(classes)), average="macro", zero_division=0)
    return loss, float(score)


def log_imbalance(recipe: str, counts: npt.NDArray[np.int64], codes: list[str], settings: TrainFold) -> None:
    """Log the effective weight of each class, at the start and where it changes, and warn where two things multiply."""
    sampler, shown = draw_factors(recipe, counts, settings), ""
    for epoch in range(epochs_of(recipe, settings)):
        share = effective_share(counts, sampler, weights_of(recipe, counts, epoch, settings))
        line = ", ".join(f"{code} {value:.3f}" for code, value in zip(codes, share, strict=True))
        if line != shown:
            log.info("%s, share of the training signal from epoch %d: %s", recipe, epoch + 1, line)
        shown = line
    if both_act(recipe, settings):
        log.warning("sampler and class weights both re-balance by '%s': they multiply", settings.rebalance)


@dataclass
class Course:
    """How far a fold has come: its history, and the best weights so far where the best epoch is kept."""

    history: list[dict[str, Any]]
    best: dict[str, torch.Tensor]

    def take(self, entry: dict[str, Any], training: FoldTraining) -> None:
        """Add an epoch; keep its weights where they are the best so far and the best are wanted."""
        wanted = training.settings.choose == "best"
        score = entry["held_out_macro_f1"]
        better = not wanted or score > max((each["held_out_macro_f1"] for each in self.history), default=-1.0)
        if better and wanted:
            self.best = {name: tensor.clone() for name, tensor in training.judged.state_dict().items()}
        self.history.append({**entry, "kept": better})

    def frame(self) -> pd.DataFrame:
        """Return the history with the one epoch marked whose weights are kept."""
        frame = pd.DataFrame(self.history)
        frame["kept"] = frame["epoch"] == frame.loc[frame["kept"], "epoch"].max()
        return frame


def train(
    training: FoldTraining, held: pd.DataFrame, codes: list[str], fold: int, checkpoint: Checkpoint
) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:
    """Train to the last epoch, from the checkpoint where there is one; return the kept weights and the history."""
    course = Course([], {})
    if stored := checkpoint.load():
        training.load(stored["training"])
        course = Course(stored["history"], stored["best"])
        log.info("continuing after step %d of %d", training.done, training.epochs * training.steps)

    def save() -> None:
        training.look()
        checkpoint.save({"training": training.state(), "history": course.history, "best": course.best})

    with Safekeeping(save, 60 * training.runtime.checkpoint_minutes) as keeping:
        for epoch in range(len(course.history), training.epochs):
            started, before = time.monotonic(), training.done
            loss = training.run_epoch(epoch, keeping.after_step)
            rate = (training.done - before) * training.sampler.batch / (time.monotonic() - started)
            held_loss, score = judge(training.judged, training.crops, held, len(codes))
            course.take(
                {"fold": fold, "epoch": epoch + 1, "train_loss": loss, "held_out_loss": held_loss,
                 "held_out_macro_f1": score, "images_per_s": rate}, training,
            )  # fmt: skip
            log.info(
                "fold %d, epoch %d/%d: train loss %.4f, held-out loss %.4f, held-out macro-F1 %.4f, %.1f images/s",
                fold, epoch + 1, training.epochs, loss, held_loss, score, rate,
            )  # fmt: skip
            save()
    return course.best or training.judged.state_dict(), course.frame()


def read_body(body: list[Path], recipe: str, fold: int, codes: list[str]) -> dict[str, torch.Tensor] | None:
    """Return the weights that the recipe starts from, None where it starts by itself; raises InputError on others."""
    wanted = BODY_OF.get(recipe)
    if wanted is None:
        return None
    if len(body) != 1:
        raise InputError(f"recipe {recipe}: --body must name the model of {wanted} for fold {fold}")
    weights, about = read_weights(body[0])
    found = (about.get("recipe"), about.get("fold"), about.get("classes"))
    if found != (wanted, fold, codes):
        raise InputError(f"{body[0]}: expected the model of {wanted}, fold {fold}, classes {codes}, found {found}")
    return weights


def adjust(
    network: nn.Module, weights: dict[str, torch.Tensor], counts: npt.NDArray[np.int64]
) -> dict[str, torch.Tensor]:
    """Return the weights of `logit_adjustment`: those of a trained network, its biases moved by class frequency."""
    linear_classifier(network)
    name = next(name for name in classifier_names(network) if name.endswith("bias"))
    biases = adjusted_biases(weights[name].double().numpy(), log_frequencies(counts))
    return {**weights, name: torch.from_numpy(biases).to(weights[name].dtype)}


def adjusted_fold(
    crops: Crops, body: dict[str, torch.Tensor], counts: npt.NDArray[np.int64], held: pd.DataFrame, fold: int,
    settings: TrainFold,
) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:  # fmt: skip
    """Return the weights and the one-row history of `logit_adjustment`, which trains nothing."""
    if settings.label_smoothing:
        told = (settings.label_smoothing, TAU)
        log.warning("logit_adjustment: label_smoothing %g narrows the body's logits; tau %g over-corrects", *told)
    network = build_backbone(settings.backbone, settings.backbone_options, None, len(counts), settings.size_px)
    weights = adjust(network, body, counts)
    network.load_state_dict(weights, strict=True)
    network = network.to(crops.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss, score = judge(network, crops, held, len(counts))
    entry = {"fold": fold, "epoch": 1, "train_loss": np.nan, "held_out_loss": loss, "held_out_macro_f1": score}
    return weights, pd.DataFrame([{**entry, "images_per_s": np.nan, "kept": True}])


def train_fold(
    *, images: Path, labels: Path, classes: Path, folds: Path, cells: Path, fold: int, recipe: str,
    body: list[Path] | None = None, model: Path, history: Path, seed: int, settings: TrainFold,
    runtime: Runtime = Runtime(),
) -> None:  # fmt: skip
    """Train on all folds but `fold`; write the model, with all that prediction needs in its header, and the history."""
    codes = class_codes(CLASSES.read(classes))
    rows = learned_rows(IMAGES.read(images), LABELS.read(labels), FOLDS.read(folds), codes)
    learned, held = rows[rows["fold"] != fold], rows[rows["fold"] == fold]
    if learned.empty or held.empty:
        raise InputError(f"{folds}: fold {fold} leaves {len(learned)} images to learn and {len(held)} to hold out")
    start = read_body(body or [], recipe, fold, codes)
    numbers = learned["number"].to_numpy(np.int64)
    crops = Crops.read(cells, settings.background, settings.size_px, pick_device())
    checkpoint = Checkpoint(model.with_name("checkpoint.safetensors"), "")
    if recipe == "logit_adjustment" and start is not None:
        counts = np.bincount(numbers, minlength=len(codes))
        weights, told = adjusted_fold(crops, start, counts, held, fold, settings)
    else:
        inputs = {"images": images, "labels": labels, "classes": classes, "folds": folds, "cells": cells}
        inputs |= {f"body_{number}": path for number, path in enumerate(body or [])}
        checkpoint.fingerprint = stamp_of(inputs, fold, recipe, seed, settings)
        crops.make_resident(crops.positions(rows["image_id"]))
        training = FoldTraining(
            crops, learned["image_id"].tolist(), numbers, len(codes), recipe, stream_seed(seed, "classify", fold),
            settings, start, runtime,
        )  # fmt: skip
        log_imbalance(recipe, training.counts, codes, settings)
        weights, told = train(training, held, codes, fold, checkpoint)
    TRAINING_HISTORY.write(told, history)
    about = {"classes": codes, "fold": fold, "recipe": recipe, "settings": settings.model_dump(mode="json")}
    write_weights(weights, about, model)
    checkpoint.remove()


def stamp_of(inputs: dict[str, Path], fold: int, recipe: str, seed: int, settings: TrainFold) -> str:
    """Return the fingerprint of a fold's training."""
    weights = weights_file(settings.backbone, settings.weights)
    if weights is not None and weights.is_file():
        inputs = {**inputs, "weights": weights}
    code = code_digest("buffycoat.classify.train_fold")
    return fingerprint(settings, inputs, code, seed=seed, fold=fold, recipe=recipe)


if __name__ == "__main__":
    run(train_fold)
