"""Seconds and memory of every step without a network, at growing sizes up to that of WBCBench, and of a dry run.

    make benchmark-scale                                  (1,000, 5,000, 20,000 and 55,012 images: an hour of two cores)
    python -m benchmarks.scale --sizes 1000               (only this one; others that are in the result stay)

Writes benchmarks/scale.json. Each step runs as the workflow runs it, by its command line, in a process of its own, on
two threads. What trained networks would have said is put there (benchmarks/scale_data.py): training is measured by
benchmarks/classify.py and others. Crops have the full size, 224 px; they are found by `stain`.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import itertools
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from benchmarks.machine import machine
from benchmarks.scale_data import DRAWN, draw_once, write_images, write_stand_ins
from buffycoat.config import Config, read_layers, science_json, settings_json
from buffycoat.core.files import read_json, write_json
from buffycoat.core.progress import start_logging
from buffycoat.data.gather_portions import ALL
from buffycoat.index.lists import folders_of, lists_of

HERE = Path(__file__).parent
SIZES = [1000, 5000, 20_000, 55_012]
PORTIONS = [1, 100, 1000]
THREADS = 2
RESTORATION, RECIPE = "median", "focal"
RESTORED, CLASSIFIED = f"4_restore/{RESTORATION}", f"5_classify/{RESTORATION}/{RECIPE}"
GATHERED = {"crops": "2_crop", "noise_scores": "3_partition", "embeddings": "6_embed", "morphology": "7_measure"}
"""The tables that are made in portions, here in one, and the folder of each."""
BEFORE = ["index.make_index", "index.make_labels", "index.make_folds", "crop.crop_cells", "gather.crops",
          "partition.measure_noise", "gather.noise_scores", "partition.flag_noisy",
          "restore.restore_cells"]  # fmt: skip
AFTER = ["gather.embeddings", "classify.combine_folds", "embed.score_baselines", "measure.measure_cells",
         "gather.morphology", "refine.fit_rules", "refine.refine_labels", "review.find_suspects",
         "report.score_labels", "report.write_predictions", "report.draw_figures", "report.write_report",
         "review.write_suspects"]  # fmt: skip
"""The steps before and after what the stand-ins are for; `gather.TABLE` puts the portions of a table together."""
FILES = {
    "images": "1_index/images.parquet",
    "pixels": "1_index/pixels.parquet",
    "labels": "1_index/labels.parquet",
    "classes": "1_index/classes.parquet",
    "test_labels": "1_index/test_labels.parquet",
    "index_summary": "1_index/summary.json",
    "folds": "1_index/folds.parquet",
    "receipt": "1_index/folds_report.json",
    "crops": "2_crop/crops.parquet",
    "scores": "3_partition/noise_scores.parquet",
    "noise": "3_partition/noise.parquet",
    "threshold": "3_partition/threshold.json",
    "cells": f"{RESTORED}/cells.parquet",
    "refused": f"{RESTORED}/refused.parquet",
    "shards": f"{RESTORED}/shards",
    "probabilities": f"{CLASSIFIED}/probabilities.parquet",
    "calibration": f"{CLASSIFIED}/calibration.json",
    "embeddings": "6_embed/embeddings.parquet",
    "prompts": f"6_embed/portions/{ALL}/prompts.parquet",
    "head_probabilities": "6_embed/probabilities.parquet",
    "knn": "6_embed/knn_probabilities.parquet",
    "baselines": "6_embed/baselines.parquet",
    "morphology": "7_measure/morphology.parquet",
    "rules": "8_refine/rules.json",
    "refined_labels": "8_refine/refined_labels.parquet",
    "suspects": "9_review/suspects.parquet",
    "familiar": "9_review/familiar.safetensors",
    "page": "9_review/suspects.html",
    "csv": "9_review/suspects.csv",
    "metrics": "report/metrics.parquet",
    "confusions": "report/confusion.parquet",
    "summary": "report/summary.json",
    "predictions": "report/predictions.parquet",
    "submission": "report/submission.csv",
    "figures": "report/figures",
    "report": "report/report.html",
}
"""The file that a parameter of a step names, the same as in workflow/rules."""
OWN_FILES = {
    ("index.make_labels", "summary"): "1_index/summary.json",
    ("crop.crop_cells", "crops"): f"2_crop/portions/{ALL}/crops.parquet",
    ("crop.crop_cells", "shards"): f"2_crop/portions/{ALL}/shards",
    ("partition.measure_noise", "scores"): f"3_partition/portions/{ALL}/noise_scores.parquet",
    ("measure.measure_cells", "morphology"): f"7_measure/portions/{ALL}/morphology.parquet",
}
"""Where a step's parameter names another file than that of other steps."""
PER_FOLD = {"logits": "logits.parquet", "histories": "history.parquet"}


def overlay_of() -> dict[str, Any]:
    """Return the configuration of a run: the workflow's at full size, without a network."""
    return {
        "preset": "wbcbench",
        "data": "smears",
        "index": {"make_labels": {"test_labels": "smears/test_labels.csv", "groups": "given"}},
        "crop": {"crop_cells": {"method": "stain", "weights": None}},
        "restore": {"restore_cells": {"method": RESTORATION}},
        "classify": {"recipe": RECIPE, "train_fold": {"weights": None}},
        "embed": {"embed_cells": {"weights": None}},
    }


def value_of(key: str, name: str, config: Config) -> list[str]:
    """Return what the workflow would give to a parameter of a step: none where it gives nothing."""
    if name in PER_FOLD:
        folds = range(config.index.make_folds.folds)
        return [f"results/{CLASSIFIED}/fold_{fold}/{PER_FOLD[name]}" for fold in folds]
    if name in ("lists", "folders"):
        return lists_of(str(config.data)) if name == "lists" else folders_of(str(config.data))
    values = {"data": str(config.data), "threads": str(THREADS), "seed": str(config.seed),
              "config": science_json(config), "columns": settings_json(config, "index.columns"),
              "statistics": settings_json(config, "statistics")}  # fmt: skip
    if name in values:
        return [values[name]]
    file = OWN_FILES.get((key, name), FILES.get(name))
    return [f"results/{file}"] if file else []


def command_of(key: str, config: Config) -> list[str]:
    """Return the command line of a step, made from its signature as the step's own is."""
    stage, rule = key.split(".")
    if stage == "gather":
        folder, module = f"results/{GATHERED[rule]}", "buffycoat.data.gather_portions"
        tables = ["--portions", f"{folder}/portions/{ALL}/{rule}.parquet", "--table", f"{folder}/{rule}.parquet"]
        return [sys.executable, "-m", module, *tables]
    step = getattr(importlib.import_module(f"buffycoat.{key}"), rule)
    command = [sys.executable, "-m", f"buffycoat.{key}"]
    for name in inspect.signature(step).parameters:
        values = [settings_json(config, key)] if name == "settings" else value_of(key, name, config)
        command += [f"--{name.replace('_', '-')}", *values] if values else []
    return command


def peaks_of(process: int) -> dict[str, int]:
    """Return a running process's highest resident memory so far and its memory that no file backs now, KiB."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return {}
    values = {line.split(":")[0]: line.split()[1] for line in lines if ":" in line and len(line.split()) > 1}
    return {name: int(values[key]) for name, key in (("resident", "VmHWM"), ("own", "RssAnon")) if key in values}


def measured(command: list[str], folder: Path, log: Path) -> dict[str, float]:
    """Run a command; return its seconds, processor seconds and peak memory, raising where it fails.

    Memory is looked at twenty times a second and told twice: all that was resident, in which pages of mapped shards
    count that the system may drop at any time, and the process's own. (The peak that the system itself reports of a
    child starts at that of its parent.)
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    started, peaks = time.perf_counter(), {"resident": 0, "own": 0}
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=folder, stdout=stream, stderr=subprocess.STDOUT)
        while True:
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            now = peaks_of(process.pid)
            peaks = {name: max(peak, now.get(name, 0)) for name, peak in peaks.items()}
            time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: failed, see {log}")
    return {
        "wall_s": round(time.perf_counter() - started, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        **{f"{name}_mib": round(peak / 1024) for name, peak in peaks.items()},
    }


def dry_run(folder: Path, name: str, *options: str) -> dict[str, float]:
    """Return what a dry run in `folder` costs."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "--cores", str(THREADS)]
    command += ["--snakefile", str(HERE.parent / "Snakefile"), "--directory", str(folder)]
    folder.mkdir(parents=True, exist_ok=True)
    return measured([*command, *options], folder, folder / "logs" / f"dry_run_{name}.log")


def dry_runs(folder: Path, overlay: Path) -> dict[str, dict[str, float]]:
    """Return what a dry run of what is left to do costs, and one that plans everything anew."""
    options = ["--configfile", str(overlay)]
    return {
        "what_is_left": dry_run(folder, "what_is_left", *options),
        "everything": dry_run(folder, "everything", *options, "--forceall"),
    }


def dry_runs_of_portions(folder: Path) -> dict[str, dict[str, float]]:
    """Return what a dry run of the demo costs with its four divisible steps in so many portions."""
    return {str(n): dry_run(folder / "portions", f"portions_{n}", "--set-scatter", f"portions={n}") for n in PORTIONS}


def sizes_of(results: Path) -> dict[str, int]:
    """Return the bytes of each table and folder of shards."""
    found = {str(f.relative_to(results)): f.stat().st_size for f in sorted(results.rglob("*.parquet"))}
    for shards in sorted(results.rglob("shards")):
        found[str(shards.relative_to(results))] = sum(f.stat().st_size for f in shards.iterdir())
    found["report/report.html"] = (results / "report" / "report.html").stat().st_size
    return found


def run_steps(images: int, here: Path) -> dict[str, dict[str, float]]:
    """Return what every step costs on the data set in `here`, which is the working directory."""
    config, steps = read_layers(overlay_of())[0], {}
    for key in [*BEFORE, "stand_ins", *AFTER]:
        if key == "stand_ins":
            write_stand_ins(here / "results", CLASSIFIED)
            continue
        steps[key] = measured(command_of(key, config), here, here / "logs" / f"{key}.log")
        print(f"{images} images, {key}: {steps[key]}", flush=True)
    return steps


def run_size(images: int, folder: Path) -> dict[str, Any]:
    """Return what every step costs on a data set of so many images; the data set is deleted afterwards."""
    here = folder / f"images_{images}"
    shutil.rmtree(here, ignore_errors=True)
    write_images(images, draw_once(folder / "drawn"), here / "smears")
    overlay = here / "overlay.yaml"
    overlay.write_text(yaml.safe_dump(overlay_of()))
    # The data are named, and looked for, from the working directory.
    with contextlib.chdir(here):
        steps = run_steps(images, here)
    about = {"images": images, "machine": machine(), "load": os.getloadavg()[2]}
    costs = {"steps": steps, "dry_run": dry_runs(here, overlay), "bytes": sizes_of(here / "results")}
    shutil.rmtree(here)
    return {**about, **costs}


def slope(points: list[tuple[float, float]]) -> float:
    """Return the exponent of growth, the slope of the line through the logarithms of (size, cost): 1 is linear."""
    xs, ys = [math.log(x) for x, _ in points], [math.log(max(y, 0.1)) for _, y in points]
    x0, y0 = sum(xs) / len(xs), sum(ys) / len(ys)
    return round(sum((x - x0) * (y - y0) for x, y in zip(xs, ys, strict=True)) / sum((x - x0) ** 2 for x in xs), 2)


def growth(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return how each step grows: exponents of processor seconds and memory, and what each further image costs.

    The exponents are over all sizes, the seconds' also over the two largest. What a step takes whatever the size, such
    as importing, lowers them; milliseconds per further image, from each size to the next, are free of it, and rise
    where a step is worse than linear. Steps that a run of an earlier version did not have are left out.
    """
    found = {}
    for key in [key for key in runs[0]["steps"] if all(key in run["steps"] for run in runs)]:
        seconds = [(run["images"], run["steps"][key]["cpu_s"]) for run in runs]
        memory = [(run["images"], run["steps"][key]["own_mib"]) for run in runs]
        further = [1000 * (t1 - t0) / (n1 - n0) for (n0, t0), (n1, t1) in itertools.pairwise(seconds)]
        found[key] = {
            "cpu_s": slope(seconds),
            "cpu_s_last_two": slope(seconds[-2:]),
            "own_mib": slope(memory),
            "cpu_ms_per_further_image": [round(value, 2) for value in further],
        }
    return found


def write_result(runs: list[dict[str, Any]], planned: dict[str, Any], result: Path) -> None:
    """Write the runs, in order of their sizes, the growth over them, and the dry runs."""
    ordered = sorted(runs, key=lambda run: int(run["images"]))
    grown = growth(ordered) if len(ordered) > 1 else {}
    told = {
        "command": "python -m benchmarks.scale --sizes IMAGES, as each run tells",
        "threads": THREADS,
        "drawn_fields": DRAWN.images,
    }
    write_json({**told, "growth": grown, "dry_runs_of_portions": planned, "runs": ordered}, result)


def main(
    folder: Annotated[Path, typer.Option(help="where the data sets are made; only the drawn fields are kept")] = Path(
        "local/scale"
    ),
    sizes: Annotated[list[int], typer.Option(help="images")] = SIZES,
    result: Annotated[Path, typer.Option()] = HERE / "scale.json",
) -> None:
    """Run the sizes, smallest first, and put the figures into the result file."""
    start_logging()
    planned = dry_runs_of_portions(folder.resolve())
    before = read_json(result)["runs"] if result.exists() else []
    runs = {run["images"]: run for run in before}
    for images in sorted(sizes):
        runs[images] = run_size(images, folder.resolve())
        write_result(list(runs.values()), planned, result)


if __name__ == "__main__":
    typer.run(main)
