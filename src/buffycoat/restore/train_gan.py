"""Step `train_gan`: Pix2Pix on pairs of clean and degraded crops, made or given; continues an interrupted run.

The workflow does not run it again where labels alone were corrected: a corrected class does not change which crops are
clean, and the patients only divide what the generator learns from what it is judged on.
"""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch

from buffycoat.core.errors import InputError
from buffycoat.core.files import whole_file
from buffycoat.core.provenance import code_digest
from buffycoat.core.settings import Runtime
from buffycoat.core.steps import run
from buffycoat.data.clean_pairs import paired_crops
from buffycoat.data.images import CellImages, Pixels
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import IMAGES, LABELS
from buffycoat.data.tables.partition import NOISE
from buffycoat.data.tables.restore import GAN_HISTORY, PAIRS
from buffycoat.nets.batches import Prefetched
from buffycoat.nets.device import pick_device
from buffycoat.nets.training import Checkpoint, Safekeeping, fingerprint, report_steps
from buffycoat.nets.weights import write_weights
from buffycoat.restore.gan import Gan, Judge, restored_by
from buffycoat.restore.pairs import CleanCrops, crops_of_pairs, digest_of, given_pairs, pairs_of, training_batch
from buffycoat.restore.settings import TrainGan

log = logging.getLogger("buffycoat")
JUDGED = 128
"""Held-out crops looked at per judgement: enough for a steady PSNR, few enough to cost seconds."""


def _taken_up(gan: Gan, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return how far the training has come, its networks taken up from the checkpoint where there is one."""
    course: dict[str, Any] = {"history": [], "done": 0, "since": 0, "sums": {}, "columns": {}}
    if stored := checkpoint.load():
        gan.load(stored["gan"])
        course = {name: stored[name] for name in course}
        log.info("continuing after step %d", course["done"])
    return course


def _report(course: dict[str, Any], gan: Gan, judge: Judge) -> None:
    """Add a row of means and scores to the history and a column to the sheet, and begin anew to sum up losses."""
    settings, done = gan.settings, course["done"]
    means = {name: total / (done - course["since"]) for name, total in course["sums"].items()}
    if not all(math.isfinite(value) for value in means.values()):
        raise InputError(f"restore.train_gan: diverged before step {done} ({means}): lower learning_rate")
    restored = restored_by(gan.averaged, judge.noisy, settings.depth, settings.batch, gan.device)
    course["history"].append({"step": done, **means, **judge.scores(restored)})
    course["columns"][f"step {done}"] = torch.from_numpy(judge.samples(restored))
    course["sums"], course["since"] = {}, done


def train(gan: Gan, fit: CleanCrops, judge: Judge, checkpoint: Checkpoint) -> tuple[pd.DataFrame, Pixels]:
    """Train to the last step, from the checkpoint where there is one; return the history and the sheet of samples."""
    settings, course = gan.settings, _taken_up(gan, checkpoint)
    begun, started = course["done"], time.monotonic()

    def save() -> None:
        checkpoint.save({"gan": gan.state(), **course})

    batches = Prefetched(lambda number: training_batch(fit, settings, gan.seed, number), range(begun, settings.steps))
    with Safekeeping(save, 60 * gan.runtime.checkpoint_minutes) as keeping:
        for number, batch in enumerate(batches, start=begun):
            for name, value in gan.step(*batch, number).items():
                course["sums"][name] = course["sums"].get(name, 0.0) + value
            course["done"] = done = number + 1
            if done % report_steps(settings.steps) == 0 or done == settings.steps:
                rate = (done - begun) / (time.monotonic() - started)
                _report(course, gan, judge)
                log.info("step %d/%d, %.1f steps/s: %s", done, settings.steps, rate, _shown(course["history"][-1]))
                save()
            keeping.after_step()
    columns = {name: column.numpy() for name, column in course["columns"].items()}
    return pd.DataFrame(course["history"]), judge.sheet(columns)


def _shown(entry: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in entry.items() if name != "step")


def clean_crops(frame: pd.DataFrame, crops: Path) -> tuple[CleanCrops, CleanCrops]:
    """Return the clean crops to learn from and those to judge on; `frame`: rows of `crops` with their part."""
    cells = CellImages(frame, crops)
    places = [np.flatnonzero(frame["part"] == "fit"), np.flatnonzero(frame["part"] == "held_out")[:JUDGED]]
    windows = frame["window_px"].to_numpy(np.int64)
    fit, held = (CleanCrops(cells.crops(some), windows[some]) for some in places)
    return fit, held


def train_gan(
    *, images: Path, labels: Path, noise: Path, crops: Path, pairs: Path, generator: Path, history: Path,
    samples: Path, seed: int, settings: TrainGan, runtime: Runtime = Runtime(),
) -> None:  # fmt: skip
    """Train on clean crops, or on pairs that the data give; write these, the generator, its history and samples."""
    image_rows, label_rows, crop_rows = IMAGES.read(images), LABELS.read(labels), CROPS.read(crops)
    if settings.pairs == "given":
        listed = given_pairs(image_rows, label_rows, crop_rows, seed)
        pair_rows = paired_crops(image_rows, crop_rows).merge(listed, on="image_id", validate="one_to_one")
        cells = CellImages(crop_rows, crops)
        fit = crops_of_pairs(pair_rows[pair_rows["part"] == "fit"], cells)
        held = crops_of_pairs(pair_rows[pair_rows["part"] == "held_out"][:JUDGED], cells)
    else:
        listed = pairs_of(image_rows, label_rows, NOISE.read(noise), seed)
        fit, held = clean_crops(crop_rows.merge(listed, on="image_id", validate="one_to_one"), crops)
    log.info("pairs, %s: %s", settings.pairs, listed["part"].value_counts().to_dict())
    code = code_digest("buffycoat.restore.train_gan")
    # The pairs and not the labels: labels that alone are corrected leave a training as it is.
    stamp = fingerprint(settings, {"crops": crops}, code, seed=seed, pairs=digest_of(listed))
    checkpoint = Checkpoint(generator.with_name("checkpoint.safetensors"), stamp)
    gan = Gan(settings, seed, pick_device(), runtime)
    told, sheet = train(gan, fit, Judge(held, settings, seed), checkpoint)
    with whole_file(samples) as partial:
        # OpenCV's own writing says nothing where the disk is full.
        partial.write_bytes(cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes())
    PAIRS.write(listed, pairs)
    GAN_HISTORY.write(told, history)
    write_weights(gan.averaged.state_dict(), settings.model_dump(mode="json"), generator)
    checkpoint.remove()


if __name__ == "__main__":
    run(train_gan)
