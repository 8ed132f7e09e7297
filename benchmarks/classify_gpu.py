"""GPU figures of branch A: Swin-T at 224 pixels in bfloat16, training and prediction, beside the usual loop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from benchmarks.classify_compare import bar, measured, with_bars
from benchmarks.classify_loops import Setting

BATCHES = (128, 256)
PREDICT_BATCH = 256
LEAST_RATIO = 1.5
LEAST_TRAINED_PER_S, LEAST_PREDICTED_PER_S = 3000.0, 9000.0
"""Bars of images/s; in prediction each view of an image counts."""


def one_batch(folder: Path, batch: int, steps: int, unique: int, repeats: int) -> dict[str, Any]:
    """Return the figures of a batch size, with its four bars; the usual loop has a worker per core."""
    setting = Setting("swin_tiny_patch4_window7_224", 224, batch, steps, background="white")
    workers = (os.cpu_count() or 1,)
    figures = with_bars(measured(folder, setting, unique, workers, repeats, PREDICT_BATCH, gpu=True), LEAST_RATIO)
    views = figures["prediction"]["views_per_s"]
    best = max((told["median"] for told in views.values() if isinstance(told, dict)), default=None)
    bars = {
        "trained_per_s": bar(LEAST_TRAINED_PER_S, figures["images_per_s"]["ours"]["median"]),
        "predicted_per_s": bar(LEAST_PREDICTED_PER_S, best),
    }
    return {**figures, "bars": {**figures["bars"], **bars}}


def gpu_figures(folder: Path, steps: int, unique: int, repeats: int) -> dict[str, Any] | str:
    """Return the figures of each batch size, or that there is no GPU; `steps` are those of the smallest batch."""
    if not torch.cuda.is_available():
        return "not run: no GPU at hand"
    return {
        f"batch_{batch}": one_batch(folder / str(batch), batch, steps * BATCHES[0] // batch, unique, repeats)
        for batch in BATCHES
    }
