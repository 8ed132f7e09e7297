"""Step `train_gan`: Pix2Pix on synthetic pairs; continues an interrupted run."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from buffycoat.device import pick_device
from buffycoat.files import whole_file
from buffycoat.images import CellImages, Pixels
from buffycoat.provenance import code_digest
from buffycoat.restore.gan import Gan
from buffycoat.restore.networks import restore_batch
from buffycoat.restore.pairs import held_out_pairs, psnr, to_pixels, to_tensor, training_batch
from buffycoat.restore.settings import TrainGan
from buffycoat.steps import run
from buffycoat.tables.crops import CROPS
from buffycoat.tables.gan_history import GAN_HISTORY
from buffycoat.tables.pairs import PAIRS
from buffycoat.training import Checkpoint, fingerprint
from buffycoat.weights import write_weights

log = logging.getLogger("buffycoat")
JUDGED = 128
"""Held-out crops looked at per judgement: enough for a steady PSNR, few enough to cost seconds."""


def restored_by(gan: Gan, noisy: Pixels, batch: int) -> Pixels:
    """Return the averaged generator's restoration of (n, H, W, 3) uint8 crops."""
    gan.averaged.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(noisy), batch):
            x = to_tensor(noisy[start : start + batch]).to(gan.device)
            parts.append(to_pixels(restore_batch(gan.averaged, x, gan.settings.depth)))
    return np.concatenate(parts)


def judge(gan: Gan, clean: Pixels, noisy: Pixels, kinds: list[str]) -> dict[str, float]:
    """Return the mean PSNR, dB, of noisy, median-filtered and restored held-out crops, and of restored per kind."""
    restored = restored_by(gan, noisy, gan.settings.batch)
    values = np.array([psnr(r, c) for r, c in zip(restored, clean, strict=True)])
    found = {
        "psnr_noisy": float(np.mean([psnr(n, c) for n, c in zip(noisy, clean, strict=True)])),
        "psnr_median": float(np.mean([psnr(cv2.medianBlur(n, 3), c) for n, c in zip(noisy, clean, strict=True)])),
        "psnr_restored": float(values.mean()),
    }
    for kind in sorted(set(kinds)):
        log.info("held out, %s: restored %.2f dB", kind, values[[k == kind for k in kinds]].mean())
    return found


def sample_sheet(clean: Pixels, noisy: Pixels, restored: Pixels, rows: int = 8) -> Pixels:
    """Return a picture with a row per crop: noisy, restored, clean."""
    lines = [np.hstack([noisy[i], restored[i], clean[i]]) for i in range(min(rows, len(clean)))]
    return np.vstack(lines)


def train(gan: Gan, fit: Pixels, held: Pixels, checkpoint: Checkpoint) -> pd.DataFrame:
    """Train to the last step, from the checkpoint where there is one; return the history."""
    settings = gan.settings
    noisy, kinds = held_out_pairs(held, settings, gan.seed)
    history: list[dict[str, float]] = []
    done = 0
    if stored := checkpoint.load():
        gan.load(stored["gan"])
        history, done = stored["history"], stored["done"]
        log.info("continuing after step %d", done)
    sums: dict[str, float] = {}
    since, started = done, time.monotonic()
    for number in range(done, settings.steps):
        gan.generator.train()
        for name, value in gan.step(*training_batch(fit, settings, gan.seed, number), number).items():
            sums[name] = sums.get(name, 0.0) + value
        if (number + 1) % settings.report_every and number + 1 != settings.steps:
            continue
        means = {name: total / (number + 1 - since) for name, total in sums.items()}
        rate = (number + 1 - since) / (time.monotonic() - started)
        history.append({"step": number + 1, **means, **judge(gan, held, noisy, kinds)})
        log.info("step %d/%d, %.1f steps/s: %s", number + 1, settings.steps, rate, _shown(history[-1]))
        checkpoint.save({"gan": gan.state(), "history": history, "done": number + 1})
        sums, since, started = {}, number + 1, time.monotonic()
    return pd.DataFrame(history)


def _shown(entry: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in entry.items() if name != "step")


def train_gan(
    *, crops: Path, pairs: Path, generator: Path, history: Path, samples: Path, seed: int, settings: TrainGan
) -> None:
    """Train on the clean crops of `pairs`; write the generator, its history and a sheet of held-out samples."""
    frame = CROPS.read(crops).merge(PAIRS.read(pairs), on="image_id", validate="one_to_one")
    cells = CellImages(frame, crops)
    fit = cells.crops(np.flatnonzero(frame["part"] == "fit"))
    held = cells.crops(np.flatnonzero(frame["part"] == "held_out")[:JUDGED])
    stamp = fingerprint(
        settings, {"crops": crops, "pairs": pairs}, code_digest("buffycoat.restore.train_gan"), seed=seed
    )
    checkpoint = Checkpoint(generator.with_name("checkpoint.safetensors"), stamp)
    gan = Gan(settings, seed, pick_device())
    told = train(gan, fit, held, checkpoint)
    noisy = held_out_pairs(held, settings, seed)[0]
    sheet = sample_sheet(held, noisy, restored_by(gan, noisy[:8], 8))
    with whole_file(samples) as partial:
        cv2.imwrite(str(partial), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    GAN_HISTORY.write(told, history)
    write_weights(gan.averaged.state_dict(), settings.model_dump(mode="json"), generator)
    checkpoint.remove()


if __name__ == "__main__":
    run(train_gan)
