"""Every stage's GPU path on one device, within eight minutes: rates, share of the peak, memory, time for WBCBench.

    make benchmark-gpu
    python -m benchmarks.gpu --tiny    (every path at reduced size, on a CPU too: shows that it works, measures nothing)

Writes benchmarks/gpu.json; without a GPU it says so and writes nothing. Images are drawn. Each stage runs in a process
of its own and is stopped when its time is up, so that one that hangs or fails costs no other. docs/gpu.md explains.
"""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer

from benchmarks import gpu_stages
from benchmarks.gpu_stages import FULL, TINY, Size
from benchmarks.machine import machine
from buffycoat.core.files import write_json
from buffycoat.core.progress import start_logging

RESULT = Path(__file__).parent / "gpu.json"
COMMAND = "make benchmark-gpu"
DEADLINE_S = 470.0
"""The whole run ends before this, seconds: what is not done by then is told as not run."""
PEAK_BF16 = 790e12
"""FLOP/s of the H200 that the floors below are reckoned for (with 4.3 TB/s); the data sheet says 989e12 and 4.8."""


class Stage(NamedTuple):
    """What is measured, how many seconds its repetitions may take, and after how many it is stopped."""

    measure: Callable[[Size, Path, float], list[dict[str, Any]]]
    seconds: float
    limit_s: float


STAGES = {
    "probe": Stage(gpu_stages.probe, 4, 60),
    "crop_embedded": Stage(gpu_stages.crop_embedded, 10, 90),
    "crop_cellpose": Stage(gpu_stages.crop_cellpose, 20, 90),
    "restore": Stage(gpu_stages.restore, 10, 90),
    "classify_train": Stage(gpu_stages.classify_train, 10, 150),
    "classify_predict": Stage(gpu_stages.classify_predict, 8, 120),
    "embed": Stage(gpu_stages.embed_siglip, 15, 90),
}
"""In order; the crops of crop_embedded are what the classifier learns from."""


class Work(NamedTuple):
    """A piece of the whole of WBCBench: how many units of what rate, and the floor on one H200, seconds."""

    stage: str
    what: str
    units: int
    told: str
    floor_s: float | None = None
    counted: bool = True
    """Whether it belongs to the sum: of two ways to crop, one does."""


IMAGES, LABELLED, TEST = 55_012, 38_535, 16_477
WORK = [
    Work("crop_embedded", "decode", IMAGES, "all images decoded once", 1.6, counted=False),
    Work("crop_embedded", "decode, segment, frame", IMAGES, "all images, embedded segmenter", counted=False),
    Work("crop_cellpose", "network", IMAGES, "all images, one tile each", 51, counted=False),
    Work("crop_cellpose", "whole method", IMAGES, "all images, one tile each, with masks of random answers"),
    Work("restore", "training, pairs made meanwhile", 20_000, "20,000 steps of 32 pairs", 71),
    Work("restore", "restoring", IMAGES, "all images: the most there can be"),
    Work("classify_train", "training", 5 * 20 * 30_828, "Swin-T, 5 folds x 20 epochs", 106),
    Work("classify_predict", "prediction", 5 * 8 * TEST, "5 models x 8 views of the test images", 8),
    Work("classify_predict", "prediction", 8 * LABELLED, "8 views of the labelled images, out of fold"),
    Work("embed", "embedding", IMAGES, "all images, MedSigLIP at 448 px, one view", 68),
]


def _measure(name: str, size: Size, folder: Path, answer: Connection) -> None:
    # A group of its own, so that what it starts can be ended with it.
    os.setsid()
    start_logging()
    started = time.perf_counter()
    told: dict[str, Any]
    try:
        stage = STAGES[name]
        told = {"rates": stage.measure(size, folder, size.patience * stage.seconds)}
        if torch.cuda.is_available():
            told["gpu_memory_mib"] = torch.cuda.max_memory_allocated() // 2**20
        told["memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10
    except Exception as problem:  # one stage's failure is a line of the result, and no other's end
        traceback.print_exc()
        told = {"failed": f"{type(problem).__name__}: {problem}"}
    answer.send({**told, "wall_s": round(time.perf_counter() - started, 1)})


def run_apart(name: str, size: Size, folder: Path, limit_s: float) -> dict[str, Any]:
    """Return what a stage measures in a process of its own, or why it did not within `limit_s` seconds."""
    if limit_s <= 0:
        return {"failed": "not run: the time for all stages was used up"}
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(name, size, folder, theirs))
    process.start()
    theirs.close()
    try:
        told: dict[str, Any] = ours.recv() if ours.poll(limit_s) else {"failed": f"not done within {limit_s:.0f} s"}
    except EOFError:
        told = {"failed": "its process ended without an answer: killed, as when memory runs out?"}
    if "failed" not in told:
        process.join(10)
    try:
        os.killpg(process.ident or -1, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
    process.join()
    return told


def peak_of(stages: dict[str, Any]) -> float | None:
    """Return the FLOP/s of the best matrix product that the probe saw, None where it failed."""
    rates = stages.get("probe", {}).get("rates", [])
    return next((float(rate["per_s"]) for rate in rates if rate["unit"] == "FLOP"), None)


def with_shares(stages: dict[str, Any]) -> dict[str, Any]:
    """Return the stages with each network's share of what the probe reached."""
    peak = peak_of(stages)
    for told in stages.values():
        for rate in told.get("rates", []):
            flop = rate.get("flop_per_unit")
            share = None if not flop or not peak else rate["per_s"] * flop / peak
            rate["share_of_measured_peak"] = None if share is None else float(f"{share:.3g}")
    return stages


def projection(stages: dict[str, Any]) -> dict[str, Any]:
    """Return the time that all of WBCBench would take at these rates, piece by piece beside its floor."""
    pieces: list[dict[str, Any]] = []
    missing: list[str] = []
    for work in WORK:
        rates = {rate["what"]: rate["per_s"] for rate in stages.get(work.stage, {}).get("rates", [])}
        per_s = rates.get(work.what)
        seconds = None if per_s is None else round(work.units / per_s, 1)
        missing += [work.told] * (seconds is None and work.counted)
        pieces.append(
            {"stage": work.stage, "work": work.told, "units": work.units, "s": seconds, "floor_h200_s": work.floor_s,
             "counted": work.counted}
        )  # fmt: skip
    total = sum(float(piece["s"] or 0) for piece in pieces if piece["counted"])
    return {"pieces": pieces, "sum_s": None if missing else round(total, 1), "missing": missing}


def measured(size: Size, names: list[str]) -> dict[str, Any]:
    """Return the whole result of the named stages."""
    packages = ("torch", "torchvision", "timm", "cellpose", "open_clip_torch")
    started, stages = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            left = DEADLINE_S - (time.monotonic() - started)
            # At reduced size nothing is measured, so nothing is hurried.
            limit_s = min(STAGES[name].limit_s, left) if size.patience else DEADLINE_S
            stages[name] = run_apart(name, size, Path(folder), limit_s)
            print(name, stages[name], flush=True)
    failed = [name for name, told in stages.items() if "failed" in told]
    return {
        "status": "incomplete" if failed or set(names) != set(STAGES) else "run",
        "command": COMMAND,
        "machine": machine(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "wall_s": round(time.monotonic() - started, 1),
        "stages": with_shares(stages),
        "wbcbench": projection(stages),
    }


def main(
    tiny: Annotated[bool, typer.Option(help="every path at reduced size; prints, and writes only to --result")] = False,
    only: Annotated[list[str] | None, typer.Option(help="these stages alone")] = None,
    result: Annotated[Path | None, typer.Option(help="default: benchmarks/gpu.json, with --tiny none")] = None,
) -> None:
    """Measure every stage; write the result. Ends with 1 where there is no GPU or a stage failed."""
    names = only or list(STAGES)
    if unknown := set(names) - set(STAGES):
        raise typer.BadParameter(f"no such stage: {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    if not tiny and not torch.cuda.is_available():
        print("no GPU: nothing was measured, and nothing is written (--tiny tries every path on the CPU)")
        raise typer.Exit(1)
    told = measured(TINY if tiny else FULL, names)
    where = result or (None if tiny else RESULT)
    if where is not None:
        write_json(told, where)
    failed = {name: stage["failed"] for name, stage in told["stages"].items() if "failed" in stage}
    print(f"{told['wall_s']} s; failed: {failed or 'nothing'}; all of WBCBench: {told['wbcbench']['sum_s']} s")
    raise typer.Exit(1 if failed else 0)


def app() -> typer.Typer:
    """Return the command line."""
    made = typer.Typer(add_completion=False)
    made.command()(main)
    return made


if __name__ == "__main__":
    app()()
