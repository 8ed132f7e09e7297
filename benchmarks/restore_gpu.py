"""GPU figures of restoration at full size: training steps/s, restored images/s, share of the device's peak FLOP/s."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from buffycoat.nets.batches import Prefetched
from buffycoat.restore.gan import Gan, restored_by
from buffycoat.restore.pairs import CleanCrops, training_batch
from buffycoat.restore.settings import TrainGan

PEAK_BF16 = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12}
"""Dense bfloat16 peak, FLOP/s, by a part of the device's name, from the makers' data sheets (SXM where there are
two)."""
SIDE = 224
"""Crop side of the presets wbcbench and paper."""
WARM_UP = 10


def _rate(step: Callable[[], Any], times: int, device: torch.device) -> float:
    """Return calls per second after a warm-up."""
    for _ in range(WARM_UP):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(times):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return times / (time.perf_counter() - started)


def _flops(work: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def measure(settings: TrainGan, device: torch.device, side: int, times: int) -> dict[str, Any]:
    """Return the figures of one setting on random crops of `side` pixels."""
    crops = np.random.default_rng(0).integers(0, 256, (256, side, side, 3), np.uint8)
    clean = CleanCrops(crops, np.full(len(crops), side))
    gan = Gan(settings, 1, device)
    batches = iter(Prefetched(lambda n: training_batch(clean, settings, 1, n), range(2 * WARM_UP + 4 * times + 2)))
    ready = next(batches)
    per_step = _flops(lambda: gan.step(*ready, 0))
    per_image = _flops(lambda: restored_by(gan.averaged, crops[:1], settings.depth, 1, device))
    networks_alone = _rate(lambda: gan.step(*ready, 1), times, device)
    with_data = _rate(lambda: gan.step(*next(batches), 1), times, device)
    images = 256 * _rate(
        lambda: restored_by(gan.averaged, crops, settings.depth, 128, device), max(1, times // 5), device
    )
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    peak = next((value for part, value in PEAK_BF16.items() if part in name), None)
    return {
        "device": name,
        "crop_px": side,
        "batch": settings.batch,
        "steps_per_s_networks_alone": round(networks_alone, 2),
        "steps_per_s_with_pairs_made": round(with_data, 2),
        "restored_images_per_s": round(images, 1),
        "flop_per_step": per_step,
        "flop_per_restored_image": per_image,
        "peak_flop_per_s_bf16": peak,
        "share_of_peak_training": None if peak is None else round(networks_alone * per_step / peak, 4),
        "share_of_peak_restoring": None if peak is None else round(images * per_image / peak, 4),
    }


def gpu_figures() -> dict[str, Any] | str:
    """Return the figures of our settings and of the paper's on this machine's GPU, or that there is none."""
    if not torch.cuda.is_available():
        return "not run: no GPU at hand"
    ours = TrainGan(depth=5, widths=(64, 64), batch=32)
    paper = TrainGan(
        depth=8, widths=(64, 64), batch=32, upsampling="transposed", norm="batch", dropout=0.5, residual=False
    )
    device = torch.device("cuda")
    return {"ours": measure(ours, device, SIDE, 50), "paper": measure(paper, device, SIDE, 50)}
