"""Does restoration earn its place? On real cells: PSNR, SSIM and macro-F1 of restored crops beside classical filters.

    make benchmark-restore
    python -m benchmarks.restore --part pixels    (one part; finished ones are taken from the cache)

Writes benchmarks/restore.json, and the picture sheet restore.png, which shows real cells, to local/benchmark-restore/.
Each part keeps what is expensive there, out of git; the trainings continue where they were interrupted. One CPU thread.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import pandas as pd
import torch
import typer
from sklearn.metrics import f1_score

from benchmarks.machine import machine
from benchmarks.restore_data import (
    CLASSIFIER,
    CROP,
    SEED,
    cells_of,
    load_classifier,
    predicted,
    prepare,
    save_arrays,
    train_classifier,
)
from benchmarks.restore_gpu import gpu_figures
from buffycoat.config import read_layers
from buffycoat.core.errors import InputError
from buffycoat.core.files import read_json, write_json
from buffycoat.core.progress import start_logging, track
from buffycoat.core.settings import Runtime
from buffycoat.data.clean_pairs import psnr, ssim
from buffycoat.data.degradations import DEGRADATIONS
from buffycoat.data.images import Pixels
from buffycoat.data.random import stream
from buffycoat.data.tables.restore import GAN_HISTORY
from buffycoat.nets.training import Checkpoint
from buffycoat.nets.weights import read_weights, write_weights
from buffycoat.restore.gan import Gan, Judge, checkerboard, generator_of, restored_by
from buffycoat.restore.pairs import CleanCrops, training_batch
from buffycoat.restore.restore_cells import judge_restoration
from buffycoat.restore.settings import TrainGan
from buffycoat.restore.train_gan import JUDGED, train

HERE = Path(__file__).parent
PARTS = ("classifier", "generator", "norms", "restored", "pixels", "labels", "sheet", "gpu")
SEVERITIES = (1, 2, 3, 4)
CLASSICAL = ("degraded", "median_3x3", "median_5x5", "non_local_means")
STRENGTHS = (5.0, 10.0, 15.0, 25.0, 40.0)
"""Filter strengths of non-local means that are tried on training crops; the best one there is used."""
RESAMPLES = 1000
RUNTIME = Runtime(bf16_on_cpu=True)
"""The trainings' precision: the CPU has bfloat16."""
SHORT_STEPS = 300
"""Steps of the trainings that compare normalisations."""


def gan_settings() -> TrainGan:
    """Return the settings of the laptop preset."""
    return read_layers({"preset": "laptop", "data": "cells.csv"})[0].restore.train_gan


def non_local_means(strength: float) -> Callable[[Pixels], Pixels]:
    """Return OpenCV's coloured non-local means of a strength, on one crop."""
    return lambda crop: np.asarray(cv2.fastNlMeansDenoisingColored(crop, None, strength, strength, 7, 21), np.uint8)


def degraded_crops(ids: list[str], crops: Pixels) -> tuple[Pixels, np.ndarray, np.ndarray]:
    """Return each crop with one kind and severity of damage, drawn from its name; the kinds; the severities."""
    kinds = sorted(DEGRADATIONS)
    made, chosen, levels = [], [], []
    for image_id, crop in zip(ids, crops, strict=True):
        rng = stream(SEED, "benchmark", "degrade", image_id)
        kind, level = kinds[int(rng.integers(len(kinds)))], int(rng.choice(SEVERITIES))
        made.append(DEGRADATIONS[kind](crop, float(level), rng))
        chosen.append(kind)
        levels.append(level)
    return np.stack(made), np.array(chosen), np.array(levels)


def best_strength(folder: Path) -> tuple[float, dict[str, float]]:
    """Return the strength of non-local means with the best mean PSNR on 64 training crops, and all of them."""
    ids, crops, _, _ = cells_of(folder, "fit")
    noisy = degraded_crops(ids[:64], crops[:64])[0]
    found = {
        strength: float(np.mean([psnr(non_local_means(strength)(a), b) for a, b in zip(noisy, crops, strict=False)]))
        for strength in STRENGTHS
    }
    return max(found, key=lambda strength: found[strength]), {str(k): v for k, v in found.items()}


def clean_crops(folder: Path) -> tuple[CleanCrops, CleanCrops]:
    """Return the crops that the generator learns from and those that it is judged on."""
    fit, held = (cells_of(folder, part)[1] for part in ("fit", "held_out"))
    return CleanCrops(fit, np.full(len(fit), CROP.size_px)), CleanCrops(held, np.full(len(held), CROP.size_px))


def train_generator(folder: Path) -> None:
    """Train our generator; add up the processor time over interruptions."""
    if (folder / "generator.safetensors").exists():
        return
    cost = folder / "generator_cost.json"
    before = read_json(cost)["cpu_s"] if cost.exists() else 0.0
    started = time.process_time()
    try:
        settings, (fit, held) = gan_settings(), clean_crops(folder)
        held = CleanCrops(held.pixels[:JUDGED], held.window_px[:JUDGED])
        checkpoint = Checkpoint(folder / "generator_checkpoint.safetensors", settings.model_dump_json())
        gan = Gan(settings, SEED, torch.device("cpu"), RUNTIME)
        history, _ = train(gan, fit, Judge(held, settings, SEED), checkpoint)
        GAN_HISTORY.write(history, folder / "gan_history.parquet")
        header = settings.model_dump(mode="json")
        write_weights(gan.averaged.state_dict(), header, folder / "generator.safetensors")
        checkpoint.remove()
    finally:
        write_json({"cpu_s": before + time.process_time() - started}, cost)


def norm_figures(folder: Path) -> dict[str, Any]:
    """Return PSNR and seconds of a short training with each normalisation, all else being equal."""
    fit, held = clean_crops(folder)
    found: dict[str, Any] = {"steps": SHORT_STEPS}
    for norm in ("none", "instance", "batch"):
        settings = gan_settings().model_copy(update={"norm": norm, "steps": SHORT_STEPS, "ema": 0.98})
        gan, judge = Gan(settings, SEED, torch.device("cpu"), RUNTIME), Judge(held, settings, SEED)
        started = time.process_time()
        for number in range(SHORT_STEPS):
            gan.step(*training_batch(fit, settings, SEED, number), number)
        seconds = time.process_time() - started
        restored = restored_by(gan.averaged, judge.noisy, settings.depth, 16, gan.device)
        scores = judge.scores(restored)
        found[norm] = {"psnr_db": round(scores["psnr_restored"], 2), "cpu_s": round(seconds, 1)}
    return found


def load_generator(folder: Path) -> tuple[torch.nn.Module, int]:
    """Return the trained generator and its depth."""
    weights, about = read_weights(folder / "generator.safetensors")
    network = generator_of(about)
    network.load_state_dict(weights)
    return network, int(about["depth"])


def restore_all(folder: Path) -> None:
    """Degrade held-out training crops and test crops, restore them in every way, keep all versions."""
    if (folder / "restored.npz").exists():
        return
    parts = [cells_of(folder, part) for part in ("test", "held_out")]
    ids = [image_id for part in parts for image_id in part[0]]
    clean, masks, labels = (np.concatenate([part[k] for part in parts]) for k in (1, 2, 3))
    degraded, kinds, severities = degraded_crops(ids, clean)
    strength, tried = best_strength(folder)
    network, depth = load_generator(folder)
    started = time.process_time()
    ours = restored_by(network, degraded, depth, 16, torch.device("cpu"))
    seconds = time.process_time() - started
    verdicts = [judge_restoration(*three, guard=True) for three in zip(degraded, ours, masks, strict=True)]
    kept = np.array([verdict.restored for verdict in verdicts])
    save_arrays(
        folder / "restored.npz",
        kinds=kinds.astype("U"), severities=severities, labels=labels.astype("U"), clean=clean, degraded=degraded,
        test=np.arange(len(ids)) < len(parts[0][0]), kept=kept, seconds=np.array(seconds),
        strength=np.array(strength), strengths=np.array([tried[str(each)] for each in STRENGTHS]),
        reasons=np.array([verdict.reason for verdict in verdicts]).astype("U"),
        median_3x3=np.stack([cv2.medianBlur(crop, 3) for crop in degraded]),
        median_5x5=np.stack([cv2.medianBlur(crop, 5) for crop in degraded]),
        non_local_means=np.stack([non_local_means(strength)(crop) for crop in track(degraded, "non-local means")]),
        ours=ours, ours_guarded=np.where(kept[:, None, None, None], ours, degraded),
    )  # fmt: skip


def mean_interval(values: np.ndarray, name: str) -> dict[str, float]:
    """Return the mean of values (n,) and its 95 % percentile interval over resampled images."""
    rng = stream(SEED, "benchmark", "bootstrap", name, len(values))
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": round(float(values.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def pixel_figures(folder: Path) -> dict[str, Any]:
    """Return PSNR and SSIM of every version, per kind and severity and for the mixture, and the bar."""
    stored = np.load(folder / "restored.npz")
    clean, kinds, severities = stored["clean"], stored["kinds"], stored["severities"]
    versions = (*CLASSICAL, "ours", "ours_guarded")
    groups = {"mixture": np.ones(len(kinds), bool)}
    groups |= {kind: kinds == kind for kind in sorted(set(kinds))}
    groups |= {f"{kind}, {level}": (kinds == kind) & (severities == level) for kind in groups if kind != "mixture"
               for level in SEVERITIES}  # fmt: skip
    values = {}
    for name in versions:
        crops = stored[name]
        values[name] = {
            "psnr_db": np.array([psnr(a, b) for a, b in zip(crops, clean, strict=True)]),
            "ssim": np.array([ssim(a, b) for a, b in zip(crops, clean, strict=True)]),
        }
    table = {
        group: {
            "pairs": int(chosen.sum()),
            **{
                name: {score: mean_interval(v[chosen], group) for score, v in values[name].items()} for name in versions
            },
        }
        for group, chosen in groups.items()
    }
    best = max(CLASSICAL, key=lambda name: values[name]["psnr_db"].mean())
    gain = mean_interval(values["ours"]["psnr_db"] - values[best]["psnr_db"], "gain")
    return {
        "table": table,
        "non_local_means": {
            "strength": float(stored["strength"]),
            "strengths_tried": STRENGTHS,
            "psnr_of_training_crops": stored["strengths"].round(2).tolist(),
        },
        "checkerboard": {name: round(checkerboard(stored[name]), 6) for name in ("clean", "degraded", "ours")},
        "best_classical": best,
        "gain_db": gain,
        "bar": {"needed_db": 1.0, "met": bool(gain["mean"] >= 1.0)},
    }  # fmt: skip


def guard_figures(folder: Path) -> dict[str, Any]:
    """Return what share of each kind the guard kept, and why it refused the others."""
    stored = np.load(folder / "restored.npz")
    frame = pd.DataFrame({"kind": stored["kinds"], "kept": stored["kept"], "reason": stored["reasons"]})
    frame["why"] = frame["reason"].str.extract(r"(noise score .* would|nucleus area would|cell area would)")[0]
    frame["why"] = frame["why"].str.extract(r"^(\w+)")[0]
    found = {}
    for kind, rows in frame.groupby("kind"):
        why = rows.loc[~rows["kept"], "why"].value_counts()
        found[str(kind)] = {
            "pairs": len(rows),
            "kept": round(float(rows["kept"].mean()), 4),
            "refused_first_because": {str(name): int(count) for name, count in why.items()},
        }
    return found


def macro_f1(true: np.ndarray, guessed: np.ndarray, classes: int) -> float:
    """Return the mean F1 of all classes, a class without images or predictions counting 0."""
    return float(f1_score(true, guessed, labels=list(range(classes)), average="macro", zero_division=0))


def resampled_f1(true: np.ndarray, guessed: dict[str, np.ndarray], classes: int) -> dict[str, np.ndarray]:
    """Return macro-F1 (RESAMPLES,) per version over the same resamples of images, within classes."""
    rng = stream(SEED, "benchmark", "labels")
    of_class = [np.flatnonzero(true == code) for code in range(classes)]
    found: dict[str, list[float]] = {name: [] for name in guessed}
    for _ in range(RESAMPLES):
        drawn = np.concatenate([rng.choice(places, len(places)) for places in of_class if len(places)])
        for name, labels in guessed.items():
            matrix = np.bincount(true[drawn] * classes + labels[drawn], minlength=classes**2).reshape(classes, classes)
            hit = np.diag(matrix)
            found[name].append(float(np.mean(2 * hit / np.maximum(matrix.sum(0) + matrix.sum(1), 1))))
    return {name: np.array(values) for name, values in found.items()}


def label_figures(folder: Path) -> dict[str, Any]:
    """Return macro-F1 of one classifier on every version of the test cells, the paired differences, and the bars."""
    stored = np.load(folder / "restored.npz")
    test = stored["test"]
    network, codes = load_classifier(folder)
    true = np.array([codes.index(label) for label in stored["labels"][test]])
    versions = ("clean", *CLASSICAL, "ours", "ours_guarded")
    guessed = {name: predicted(network, stored[name][test]) for name in versions}
    scores = {name: macro_f1(true, guessed[name], len(codes)) for name in versions}
    draws = resampled_f1(true, guessed, len(codes))
    best = max(CLASSICAL, key=lambda name: scores[name])

    def of(name: str) -> dict[str, float]:
        low, high = np.quantile(draws[name], [0.025, 0.975])
        return {"macro_f1": round(scores[name], 4), "low": round(float(low), 4), "high": round(float(high), 4)}

    def difference(a: str, b: str) -> dict[str, float]:
        low, high = np.quantile(draws[a] - draws[b], [0.025, 0.975])
        return {
            "difference": round(scores[a] - scores[b], 4),
            "low": round(float(low), 4),
            "high": round(float(high), 4),
        }

    kinds = stored["kinds"][test]
    per_kind = {
        kind: {
            name: round(macro_f1(true[kinds == kind], guessed[name][kinds == kind], len(codes)), 4) for name in versions
        }
        for kind in sorted(set(kinds))
    }
    need = {base: 0.5 * (scores["clean"] - scores[base]) for base in (best, "degraded")}
    return {
        "cells": int(test.sum()),
        "macro_f1": {name: of(name) for name in versions},
        "best_classical": best,
        "differences": {f"{a} - {b}": difference(a, b) for a in ("ours", "ours_guarded")
                        for b in dict.fromkeys((best, "degraded", "median_3x3", "clean"))},
        "per_kind": per_kind,
        "bars": {
            f"closes half of the gap between {base} and clean": {
                "needed": round(need[base], 4),
                "found": round(scores["ours"] - scores[base], 4),
                "share_closed": round((scores["ours"] - scores[base]) / max(1e-9, 2 * need[base]), 4),
                "met": bool(scores["ours"] - scores[base] >= need[base]),
            }
            for base in need
        },
    }  # fmt: skip


def draw_sheet(folder: Path, best: str) -> None:
    """Write the picture sheet: a row per kind and severity 2 and 4, columns clean, degraded, filters, ours."""
    stored = np.load(folder / "restored.npz")
    other = best if best not in ("degraded", "median_3x3") else "non_local_means"
    columns = {"clean": "clean", "degraded": "degraded", "median_3x3": "median 3x3", other: other.replace("_", " "),
               "ours": "Pix2Pix"}  # fmt: skip
    rows = []
    for kind in sorted(DEGRADATIONS):
        for level in (2, 4):
            place = int(np.flatnonzero((stored["kinds"] == kind) & (stored["severities"] == level))[0])
            band = np.full((16, 128 * len(columns), 3), 255, np.uint8)
            text = f"{kind.replace('_', ' ')}, severity {level}: " + ", ".join(
                f"{heading} {psnr(stored[name][place], stored['clean'][place]):.1f} dB"
                for name, heading in columns.items()
                if name != "clean"
            )
            cv2.putText(band, text, (3, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.34, (34, 48, 60), 1, cv2.LINE_AA)
            rows += [band, np.hstack([stored[name][place] for name in columns])]
    sheet = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(folder / "restore.png"), sheet)


def about(folder: Path) -> dict[str, Any]:
    """Return what the figures were made with: command, machine, versions, data, settings, costs."""
    history = GAN_HISTORY.read(folder / "gan_history.parquet")
    network, _ = load_generator(folder)
    stored = np.load(folder / "restored.npz")
    packages = ("torch", "timm", "opencv-python-headless", "scikit-image", "scikit-learn", "numpy")
    cost = read_json(folder / "generator_cost.json")["cpu_s"]
    settings = TrainGan.model_validate(read_weights(folder / "generator.safetensors")[1])
    if settings != gan_settings():
        raise InputError(f"{folder}: its generator was trained with other settings than the preset's; delete it")
    return {
        "command": "make benchmark-restore",
        "machine": machine(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "data": "real cells of Acevedo et al. 2020; the 128-px crops count as the source images and are damaged at that"
        " size, one kind and one severity per cell; held out: split test and a tenth of split train",
        "cells": {part: len(cells_of(folder, part)[0]) for part in ("fit", "held_out", "test")},
        "crop": CROP.model_dump(mode="json"),
        "generator": {
            "settings": settings.model_dump(mode="json"),
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "training_cpu_s": round(cost, 1),
            "training_steps_per_cpu_s": round(settings.steps / cost, 3),
            "restored_images_per_cpu_s": round(len(stored["clean"]) / float(stored["seconds"]), 1),
            "curve": history.round(4).to_dict("records"),
        },
        "classifier": CLASSIFIER.model_dump(mode="json"),
        "intervals": f"95 % percentile bootstrap over images, {RESAMPLES} resamples; differences are paired",
    }


def main(
    part: Annotated[list[str] | None, typer.Option(help=f"one of {', '.join(PARTS)}; all where none is named")] = None,
    folder: Annotated[Path, typer.Option(help="where expensive results are kept")] = Path("local/benchmark-restore"),
) -> None:
    """Run the parts that are named and put their figures into benchmarks/restore.json."""
    chosen = part or list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        raise typer.BadParameter(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    start_logging()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    result = HERE / "restore.json"
    figures = read_json(result) if result.exists() else {}
    prepare(folder)
    for name, work in (("classifier", train_classifier), ("generator", train_generator), ("restored", restore_all)):
        if name in chosen:
            work(folder)
    if "pixels" in chosen:
        figures |= {**about(folder), "pixels": pixel_figures(folder), "guard": guard_figures(folder)}
    if "norms" in chosen:
        figures["norms"] = norm_figures(folder)
    if "labels" in chosen:
        figures["labels"] = label_figures(folder)
    if "sheet" in chosen:
        draw_sheet(folder, figures["pixels"]["best_classical"])
    if "gpu" in chosen:
        figures["gpu"] = gpu_figures()
    if figures:
        write_json(figures, result)


if __name__ == "__main__":
    typer.run(main)
