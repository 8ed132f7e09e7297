"""How fast branch A trains and predicts, beside the usual PyTorch loop around the same network.

    make benchmark-classify
    python -m benchmarks.classify --part gpu    (on a machine with a GPU: only that part, added to the same file)

Writes benchmarks/classify.json. Both loops run turn by turn, each time in a process of its own. The usual loop decodes
its JPEGs in every epoch; ours reads crops, which the workflow cuts out once: that time is told beside the rates.
"""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.classify_compare import measured, with_bars
from benchmarks.classify_gpu import gpu_figures
from benchmarks.classify_loops import Setting
from benchmarks.machine import machine
from buffycoat.config import read_layers
from buffycoat.core.files import read_json, write_json
from buffycoat.core.progress import start_logging

HERE = Path(__file__).parent
BARS = {"compute_bound": 1.0, "data_bound": 1.5}
"""Least ratio of our training images/s to the usual loop's."""
WORKERS = (0, 2)
"""Numbers of DataLoader workers that the usual loop is tried with on a CPU; the faster one is its figure."""


def cpu_settings(compute_steps: int, data_steps: int) -> dict[str, Setting]:
    """Return a setting bound by the network, and the demo's, bound by the data."""
    demo = read_layers({"preset": "demo"})[0].classify.train_fold
    return {
        "compute_bound": Setting("tf_efficientnet_lite0", 128, 32, compute_steps),
        "data_bound": Setting(
            demo.backbone, demo.size_px, demo.batch, data_steps, demo.backbone_options, demo.background
        ),
    }


def cpu_figures(folder: Path, compute_steps: int, data_steps: int, unique: int, repeats: int) -> dict[str, Any]:
    """Return the figures of both settings on the CPU, with bars."""
    batches = {"compute_bound": 32, "data_bound": 128}
    return {
        name: with_bars(measured(folder, setting, unique, WORKERS, repeats, batches[name], gpu=False), BARS[name])
        for name, setting in cpu_settings(compute_steps, data_steps).items()
    }


def about() -> dict[str, Any]:
    """Return what the figures were made with."""
    packages = ("torch", "torchvision", "timm", "pillow", "numpy")
    return {
        "command": "make benchmark-classify",
        "machine": machine(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "torch_threads": torch.get_num_threads(),
        "load_average_before": round(os.getloadavg()[0], 2),
        "plain": "torch.utils.data.Dataset with PIL, torchvision v2 (Resize, both flips, RandomRotation(90),"
        " ColorJitter, Normalize), DataLoader with WeightedRandomSampler and persistent workers, AdamW, cross-entropy;"
        " same timm model, precision and batch; not compiled, PyTorch's own memory format. The number of workers is the"
        " fastest of one trial each. plain_channels_last: the same in the memory format of ours",
        "ours": "FoldTraining.run_epoch with its defaults: all augmentation, clipping and averaging included",
    }


def main(
    part: Annotated[str, typer.Option(help="cpu, gpu or both")] = "both",
    repeats: Annotated[int, typer.Option(help="turns of each loop")] = 3,
    unique: Annotated[int, typer.Option(help="different images; they are listed again to fill an epoch")] = 640,
    compute_steps: Annotated[int, typer.Option(help="steps of the epoch that is timed, EfficientNet-Lite0")] = 16,
    data_steps: Annotated[int, typer.Option(help="the same for the demo's network")] = 64,
    gpu_steps: Annotated[int, typer.Option(help="the same for Swin-T at batch 128 on a GPU")] = 80,
    result: Annotated[Path, typer.Option()] = HERE / "classify.json",
) -> None:
    """Measure and put the figures into the result file; a part that is not named keeps its old ones."""
    if part not in ("cpu", "gpu", "both"):
        raise typer.BadParameter(f"no such part: {part}; there are cpu, gpu and both")
    start_logging()
    figures = read_json(result) if result.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        if part != "gpu":
            figures["cpu"] = {**about(), **cpu_figures(Path(folder), compute_steps, data_steps, unique, repeats)}
        if part != "cpu":
            told = gpu_figures(Path(folder), gpu_steps, unique, repeats)
            figures["gpu"] = {**about(), **told} if isinstance(told, dict) else told
    write_json(figures, result)


if __name__ == "__main__":
    typer.run(main)
