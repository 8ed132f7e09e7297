"""Step `predict_degraded`: what a fold's model makes of the images it held out once they are degraded."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from buffycoat.classify.backbones import normalise
from buffycoat.classify.crops import Crops
from buffycoat.classify.predict_fold import PREDICT_BATCH, judged_rows, load_fold_model
from buffycoat.classify.settings import PredictDegraded
from buffycoat.core.progress import Progress
from buffycoat.core.settings import Runtime
from buffycoat.core.steps import run
from buffycoat.data.degradations import DEGRADATIONS
from buffycoat.data.random import stream
from buffycoat.data.tables.classify import DEGRADED
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, class_codes
from buffycoat.data.tables.partition import NOISE
from buffycoat.nets.batches import Prefetched
from buffycoat.nets.device import mixed_precision, pick_device

log = logging.getLogger("buffycoat")
AS_IT_IS = ("none", 0.0)


def clean_held_out(images: pd.DataFrame, folds: pd.DataFrame, noise: pd.DataFrame, fold: int) -> pd.Series:
    """Return the names of the training images that the fold held out and whose crops are not noisy already."""
    rows = judged_rows(images, folds, fold)
    clean = set(noise.loc[~noise["noisy"], "image_id"])
    wanted = rows["out_of_fold"] & rows["image_id"].isin(clean)
    return rows.loc[wanted, "image_id"].reset_index(drop=True)


def degraded_pixels(crops: Crops, positions: list[int], kind: str, severity: float, seed: int) -> Tensor:
    """Return crops (n, S, S, 3) uint8, degraded at their own resolution, on the set background.

    The randomness is each image's own, and the same at every severity.
    """
    pixels = np.asarray(crops.images.crops(positions))
    if kind != AS_IT_IS[0]:
        names = [str(crops.images.ids[position]) for position in positions]
        streams = [stream(seed, "degraded", kind, name) for name in names]
        pixels = np.stack([DEGRADATIONS[kind](crop, severity, rng) for crop, rng in zip(pixels, streams, strict=True)])
    return crops.on_background(pixels, positions)


def predict_kinds(
    network: nn.Module, crops: Crops, positions: list[int], seed: int, severities: tuple[float, ...],
    runtime: Runtime = Runtime(), batch: int = PREDICT_BATCH,
) -> dict[tuple[str, float], np.ndarray]:  # fmt: skip
    """Return the class numbers (n,) of the crops at `positions`, by kind and severity; as they are first."""
    ways = [AS_IT_IS, *((kind, severity) for kind in DEGRADATIONS for severity in severities)]
    starts = range(0, len(positions), batch)
    jobs = [(way, positions[start : start + batch]) for way in ways for start in starts]
    progress = Progress("predict_degraded", len(positions) * len(ways))
    found: dict[tuple[str, float], list[np.ndarray]] = {way: [] for way in ways}
    batches = Prefetched(
        lambda number: degraded_pixels(crops, jobs[number][1], *jobs[number][0], seed), range(len(jobs))
    )
    with torch.inference_mode(), mixed_precision(crops.device, runtime.bf16_on_cpu):
        for (way, _), pixels in zip(jobs, batches, strict=True):
            images = normalise(crops.as_images(pixels), network)
            found[way].append(network(images).argmax(dim=1).cpu().numpy())
            progress.step(len(images))
    return {way: np.concatenate([np.empty(0, np.int64), *parts]) for way, parts in found.items()}


def predict_degraded(
    *, images: Path, classes: Path, folds: Path, noise: Path, cells: Path, model: Path, fold: int, degraded: Path,
    seed: int, settings: PredictDegraded, runtime: Runtime = Runtime(),
) -> None:  # fmt: skip
    """Predict the clean held-out images as they are, then with each degradation at each severity, in one view."""
    codes = class_codes(CLASSES.read(classes))
    network, trained = load_fold_model(model, codes)
    ids = clean_held_out(IMAGES.read(images), FOLDS.read(folds), NOISE.read(noise), fold)
    crops = Crops.read(cells, trained.background, trained.size_px, pick_device())
    network = network.to(crops.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = predict_kinds(network, crops, crops.positions(ids), seed, settings.severities, runtime)
    names = np.array(codes, object)
    parts = [
        pd.DataFrame({"image_id": ids, "fold": fold, "kind": kind, "severity": severity, "label": names[numbers]})
        for (kind, severity), numbers in found.items()
    ]
    DEGRADED.write(pd.concat(parts, ignore_index=True), degraded)


if __name__ == "__main__":
    run(predict_degraded)
