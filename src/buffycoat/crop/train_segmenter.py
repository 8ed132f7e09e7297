"""Step `train_segmenter`: the embedded segmenter fine-tuned on masks of the user's own; resumes."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from buffycoat.core.errors import InputError
from buffycoat.core.files import sha256_of
from buffycoat.core.provenance import code_digest
from buffycoat.core.settings import Runtime
from buffycoat.core.steps import run
from buffycoat.crop.crop_cells import Segmenter
from buffycoat.crop.embedded_method import segment_by_network
from buffycoat.crop.segmenter import half_precision, imagenet_network, load_network
from buffycoat.crop.segmenter_samples import MaskedImage, Source, read_mask_set, source_of
from buffycoat.crop.segmenter_training import SegmenterTraining, Summary, nearest_cell, summarise
from buffycoat.crop.settings import TrainSegmenter
from buffycoat.data.random import stream
from buffycoat.data.tables.crop import SEGMENTER_HISTORY
from buffycoat.nets.device import pick_device
from buffycoat.nets.training import Checkpoint, Safekeeping, fingerprint, report_steps, seed_torch
from buffycoat.nets.weights import write_weights

log = logging.getLogger("buffycoat")


def divide(
    images: list[MaskedImage], share: float, seed: int, name: str
) -> tuple[list[MaskedImage], list[MaskedImage]]:
    """Return (fit, held out) of one set; at least one image is left to learn from."""
    count = min(len(images) - 1, math.ceil(share * len(images)))
    held = set(stream(seed, "segmenter", "held out", name).choice(len(images), count, replace=False).tolist())
    return [x for k, x in enumerate(images) if k not in held], [x for k, x in enumerate(images) if k in held]


def contents_of(images: list[MaskedImage]) -> str:
    """Return a digest of all pixels and masks: a repainted mask does not continue a training on the old one."""
    digest = hashlib.sha256()
    for image in images:
        for part in (image.pixels, image.cells, image.nuclei):
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def judge(segment: Segmenter, held: list[MaskedImage]) -> Summary | None:
    """Return the agreement of the primary cells of held-out images with the experts'; None where none is held out."""
    found = [nearest_cell(mask, image) for image in held for mask, _ in segment([image.pixels])]
    return summarise(found) if found else None


def embedded_segmenter(network: nn.Module) -> Segmenter:
    """Return the method `embedded` with a network that is still in training."""
    return partial(segment_by_network, network)


def history_row(step: int, loss: float, summary: Summary | None) -> dict[str, Any]:
    """Return a row of the history."""
    names = {"cell_iou": "cell_iou_median", "cell_iou_p10": "cell_iou_p10", "nucleus_iou": "nucleus_iou_median"}
    judged = {ours: getattr(summary, theirs, None) for ours, theirs in {**names, "missed": "missed"}.items()}
    return {"step": step, "loss": loss, **judged}


def train(
    training: SegmenterTraining, sources: list[list[Source]], held: list[MaskedImage], checkpoint: Checkpoint
) -> pd.DataFrame:
    """Train to the last step, from the checkpoint where there is one; return the history."""
    steps, batch = training.settings.steps, training.settings.batch
    course: dict[str, Any] = {"history": [], "done": 0, "losses": []}
    if stored := checkpoint.load():
        training.load(stored["training"])
        course = {name: stored[name] for name in course}
        log.info("continuing after step %d", course["done"])
    since, started = course["done"], time.monotonic()

    def save() -> None:
        checkpoint.save({"training": training.state(), **course})

    with Safekeeping(save, 60 * training.runtime.checkpoint_minutes) as keeping:
        for number in range(course["done"], steps):
            course["losses"].append(training.step(sources, number))
            course["done"] = done = number + 1
            if done % report_steps(steps) == 0 or done == steps:
                loss, judged = float(np.mean(course["losses"])), judge(embedded_segmenter(training.averaged), held)
                course["history"].append(history_row(done, loss, judged))
                course["losses"] = []
                rate = (done - since) * batch / (time.monotonic() - started)
                log.info("step %d/%d, %.1f views/s: %s", done, steps, rate, course["history"][-1])
                save()
                since, started = done, time.monotonic()
            keeping.after_step()
    return pd.DataFrame(course["history"])


def train_embedded(
    fit: list[list[MaskedImage]], held: list[MaskedImage], checkpoint: Checkpoint, settings: TrainSegmenter, seed: int,
    runtime: Runtime = Runtime(),
) -> tuple[dict[str, Tensor], pd.DataFrame]:  # fmt: skip
    """Return the tensors of the embedded network after training, and the history."""
    seed_torch(seed, "segmenter", "initialise")
    network = load_network() if settings.start == "shipped" else imagenet_network()
    training = SegmenterTraining(network, settings, seed, pick_device(), runtime)
    told = train(training, [[source_of(image) for image in part] for part in fit], held, checkpoint)
    return half_precision(training.averaged), told


def train_segmenter(
    *, masks: list[Path], segmenter: Path, history: Path, seed: int, settings: TrainSegmenter,
    runtime: Runtime = Runtime(),
) -> None:  # fmt: skip
    """Train on the images and masks that the CSVs name; write the segmenter and the course of its training."""
    if not masks:
        raise InputError("crop.train_segmenter.masks: names no CSV, so there is nothing to learn from")
    sets = [divide(read_mask_set(table), settings.held_out, seed, str(k)) for k, table in enumerate(masks)]
    fit, held = [part for part, _ in sets], [image for _, part in sets for image in part]
    log.info("%d images to learn from, %d held out", sum(len(part) for part in fit), len(held))
    inputs = {f"masks {k}": table for k, table in enumerate(masks)}
    code = code_digest("buffycoat.crop.train_segmenter")
    stamp = fingerprint(settings, inputs, code, seed=seed, pictures=contents_of([*held, *sum(fit, [])]))
    checkpoint = Checkpoint(segmenter.with_name("segmenter_checkpoint.safetensors"), stamp)
    state, told = train_embedded(fit, held, checkpoint, settings, seed, runtime)
    SEGMENTER_HISTORY.write(told, history)
    about = {
        "settings": settings.model_dump(mode="json"),
        "images": [len(part) for part in fit],
        "masks": [sha256_of(table) for table in masks],
        "held_out": told.iloc[-1].dropna().to_dict(),
    }
    write_weights(state, about, segmenter)
    checkpoint.remove()


if __name__ == "__main__":
    run(train_segmenter)
