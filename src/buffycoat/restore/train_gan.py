"""Step `train_gan`: Pix2Pix on synthetic pairs; continues an interrupted run."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from buffycoat.core.errors import InputError
from buffycoat.core.files import whole_file
from buffycoat.core.provenance import code_digest
from buffycoat.core.steps import run
from buffycoat.data.images import CellImages, Pixels
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.restore import GAN_HISTORY, PAIRS
from buffycoat.nets.batches import Prefetched
from buffycoat.nets.device import pick_device
from buffycoat.nets.training import Checkpoint, fingerprint
from buffycoat.nets.weights import write_weights
from buffycoat.restore.gan import Gan, Judge, restored_by
from buffycoat.restore.pairs import CleanCrops, training_batch
from buffycoat.restore.settings import TrainGan

log = logging.getLogger("buffycoat")
JUDGED = 128
"""Held-out crops looked at per judgement: enough for a steady PSNR, few enough to cost seconds."""


def train(gan: Gan, fit: CleanCrops, judge: Judge, checkpoint: Checkpoint) -> tuple[pd.DataFrame, Pixels]:
    """Train to the last step, from the checkpoint where there is one; return the history and the sheet of samples."""
    settings = gan.settings
    history: list[dict[str, float]] = []
    columns: dict[str, Pixels] = {}
    done = 0
    if stored := checkpoint.load():
        gan.load(stored["gan"])
        history, done = stored["history"], stored["done"]
        columns = {name: column.numpy() for name, column in stored["columns"].items()}
        log.info("continuing after step %d", done)
    sums: dict[str, float] = {}
    since, started = done, time.monotonic()
    batches = Prefetched(lambda number: training_batch(fit, settings, gan.seed, number), range(done, settings.steps))
    for number, batch in enumerate(batches, start=done):
        for name, value in gan.step(*batch, number).items():
            sums[name] = sums.get(name, 0.0) + value
        if (number + 1) % settings.report_every and number + 1 != settings.steps:
            continue
        means = {name: total / (number + 1 - since) for name, total in sums.items()}
        if not all(math.isfinite(value) for value in means.values()):
            raise InputError(f"restore.train_gan: diverged before step {number + 1} ({means}): lower learning_rate")
        rate = (number + 1 - since) / (time.monotonic() - started)
        restored = restored_by(gan.averaged, judge.noisy, settings.depth, settings.batch, gan.device)
        history.append({"step": number + 1, **means, **judge.scores(restored)})
        columns[f"step {number + 1}"] = judge.samples(restored)
        log.info("step %d/%d, %.1f steps/s: %s", number + 1, settings.steps, rate, _shown(history[-1]))
        checkpoint.save({"gan": gan.state(), "history": history, "done": number + 1, "columns": _tensors(columns)})
        sums, since, started = {}, number + 1, time.monotonic()
    return pd.DataFrame(history), judge.sheet(columns)


def _tensors(columns: dict[str, Pixels]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(column) for name, column in columns.items()}


def _shown(entry: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in entry.items() if name != "step")


def train_gan(
    *, crops: Path, pairs: Path, generator: Path, history: Path, samples: Path, seed: int, settings: TrainGan
) -> None:
    """Train on the clean crops of `pairs`; write the generator, its history and a sheet of held-out samples."""
    frame = CROPS.read(crops).merge(PAIRS.read(pairs), on="image_id", validate="one_to_one")
    cells = CellImages(frame, crops)

    def some(places: np.ndarray) -> CleanCrops:
        return CleanCrops(cells.crops(places), frame["window_px"].to_numpy(np.int64)[places])

    fit = some(np.flatnonzero(frame["part"] == "fit"))
    held = some(np.flatnonzero(frame["part"] == "held_out")[:JUDGED])
    stamp = fingerprint(
        settings, {"crops": crops, "pairs": pairs}, code_digest("buffycoat.restore.train_gan"), seed=seed
    )
    checkpoint = Checkpoint(generator.with_name("checkpoint.safetensors"), stamp)
    gan = Gan(settings, seed, pick_device())
    told, sheet = train(gan, fit, Judge(held, settings, seed), checkpoint)
    with whole_file(samples) as partial:
        # OpenCV's own writing says nothing where the disk is full.
        partial.write_bytes(cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes())
    GAN_HISTORY.write(told, history)
    write_weights(gan.averaged.state_dict(), settings.model_dump(mode="json"), generator)
    checkpoint.remove()


if __name__ == "__main__":
    run(train_gan)
