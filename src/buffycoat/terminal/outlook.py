"""What a run is about to do, before it does it: its data, its trainings, and how long they take on this machine.

The times are those of one machine (REFERENCE), scaled by the cores of this one and the speed of Python on it. They are
meant to tell minutes from days. The display corrects them by the jobs that have ended.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from buffycoat.config import Config
from buffycoat.core.environment import cores, find_gpu, version
from buffycoat.core.files import read_json
from buffycoat.index.lists import SMEARS
from buffycoat.index.overview import describe, look_at

log = logging.getLogger("snakemake.logging")
"""Snakemake's own logger, so that its log file keeps these lines too."""
SUMMARY, REPORT = Path("results/report/summary.json"), Path("results/report/report.html")
BUNDLE = Path("results/bundle/bundle/bundle.json")
REFERENCE = "2 cores of an AMD EPYC, no GPU"
"""The machine of the seconds below. They are from the benchmark files of finished runs of the presets demo and laptop
(benchmarks/runs.json), and, for Swin-T, Cellpose and MedSigLIP at full size, from single batches."""
REFERENCE_CORES = 2
REFERENCE_LOOP_S = 0.0064
"""Seconds of `_loop` on it."""
START_S, START_TORCH_S = 1.2, 4.5
"""A step without and with a network, before and after its work."""
SECONDS = {
    "draw_smears": 0.015,
    "make_index": 0.001,
    "measure_noise": 0.0003,
    "restore_cells": 0.001,
    "measure_cells": 0.0015,
    "score_baselines": 0.0005,
    "find_suspects": 0.001,
    "score_labels": 0.001,
    "pack_bundle": 0.0002,
}
"""Per image of the data set, without the start."""
SHORT = (
    "make_labels", "make_folds", "flag_noisy", "gather_portions", "combine_folds", "fit_rules", "refine_labels",
    "write_predictions", "write_suspects", "write_report", "write_provenance", "draw_figures",
)  # fmt: skip
"""Rules that take little more than their start."""
UNKNOWN = ("train_segmenter", "predict_degraded", "compare_recipes", "score_robustness", "try_alternatives")
"""Rules whose time is not estimated: those of the ablation, and a segmenter of one's own."""
CROP_S = {"embedded": 0.030, "cellpose": 13.0, "stain": 0.006}
"""Per image, by the method of cropping."""
HEAD_S = 0.00015
"""Per row and epoch of the contrastive head."""
GMAC_OF_LITE0_AT_224 = 0.407
GMAC_PER_S = {"swin": (12.5, 50.0), "lite0": (5.3, 25.0)}
"""Billion multiplications with addition per second in training and in prediction; the backward pass is counted in."""
PER_VIEW_S = (0.00065, 0.0003)
"""Besides the network: reading and augmenting an image, in training and in prediction."""
FROZEN = 0.7
"""Share of the time of a training step that is left where the first stages are frozen."""
MEDSIGLIP_S = 3.5
"""Per image at 448 px."""
GAN_S = 0.095 / (8 * 64 * 64 * 16 * 16)
"""Per step, pair, pixel and product of the widths of the first layers."""
GAN_FEATURES = 1.6
"""Factor where the loss compares features of a network."""


def _loop() -> float:
    """Return the seconds of a fixed piece of work in Python, the best of three."""
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        total = 0
        for k in range(100_000):
            total += k * k % 7
        best = min(best, time.perf_counter() - started)
    return best


def slowness() -> float:
    """Return how many times longer this machine takes than the reference, by its cores and one fixed piece of work."""
    return _loop() / REFERENCE_LOOP_S * (REFERENCE_CORES / cores())


def _gmac(config: Config) -> tuple[str, float] | None:
    """Return the kind of branch A's network and its billion multiplications per image; None for networks not known."""
    fold = config.classify.train_fold
    if fold.backbone.startswith("tf_efficientnet_lite0"):
        return "lite0", GMAC_OF_LITE0_AT_224 * (fold.size_px / 224) ** 2
    if "swin" in fold.backbone:
        options = fold.backbone_options
        width, depths = options.get("embed_dim", 96), options.get("depths", (2, 2, 6, 2))
        if isinstance(width, int) and isinstance(depths, Sequence) and not isinstance(depths, str):
            # Halving the side doubles the width, so that every layer costs the same.
            return "swin", 12 * width**2 * (fold.size_px / 4) ** 2 * sum(map(int, depths)) / 1e9
    return None


@dataclass(frozen=True)
class Size:
    """How much there is to work on: images, those that can be learned from, folds."""

    images: int
    learned: int
    folds: int


def _of_networks(config: Config, size: Size) -> dict[str, float | None]:
    """Return the seconds of one job of the rules with networks on the reference machine, without the start."""
    fold, gan, embed = config.classify.train_fold, config.restore.train_gan, config.embed
    crop = config.crop.crop_cells
    known = _gmac(config)
    train = predict = None
    if known:
        rate = GMAC_PER_S[known[0]]
        left = FROZEN if fold.frozen_stages else 1.0
        shown = size.learned * (size.folds - 1) / size.folds * fold.epochs
        train = shown * (known[1] * left / rate[0] + PER_VIEW_S[0])
        judged = size.images - size.learned * (size.folds - 1) / size.folds
        predict = judged * config.classify.predict_fold.views * (known[1] / rate[1] + PER_VIEW_S[1])
    side = min(gan.patch_px or crop.size_px, crop.size_px)
    pixels = gan.batch * side**2 * gan.widths[0] * gan.widths[1]
    per_image = {
        "efficientnet_lite0": GMAC_OF_LITE0_AT_224 * (embed.embed_cells.size_px / 224) ** 2 / GMAC_PER_S["lite0"][1],
        "medsiglip": MEDSIGLIP_S * (embed.embed_cells.size_px / 448) ** 2,
    }
    encoder = per_image.get(embed.embed_cells.encoder)
    heads = size.folds if embed.train_head.cross_fit else 1
    return {
        "crop_cells": CROP_S[crop.chosen_method()] * size.images,
        "train_gan": gan.steps * pixels * GAN_S * (GAN_FEATURES if gan.lambda_features else 1.0),
        "train_fold": train,
        "predict_fold": predict,
        "embed_cells": None if encoder is None else encoder * size.images,
        "train_head": heads * embed.train_head.epochs * size.learned * HEAD_S,
    }


def job_seconds(config: Config, size: Size, factor: float) -> dict[str, float | None]:
    """Return the estimated seconds of one job by rule; None where nothing is known of it.

    `factor` is what `slowness` says. On a GPU nothing with a network is known: no figure for one has been measured.
    Rules that only the ablation asks for, and a segmenter of one's own, are not known either.
    """
    networks = _of_networks(config, size)
    simple = {rule: START_S + per_image * size.images for rule, per_image in SECONDS.items()}
    known: dict[str, float | None] = {**dict.fromkeys(SHORT, START_S), **simple}
    for rule, seconds in networks.items():
        known[rule] = None if seconds is None or find_gpu() else START_TORCH_S + seconds
    return {
        **{rule: None if seconds is None else seconds * factor for rule, seconds in known.items()},
        **dict.fromkeys(UNKNOWN, None),
    }


def _drawn(config: Config) -> tuple[list[str], Size]:
    """Return the lines about drawn cells, which do not exist yet, and how many there will be."""
    drawn = config.simulate.draw_smears
    lines = [
        "data: drawn smears; the scores say that the chain works and nothing about blood",
        f"images: about {drawn.images} of 13 classes and {drawn.patients} patients, of them 70 % for training",
    ]
    return lines, Size(drawn.images, round(0.7 * drawn.images), config.index.make_folds.folds)


def _looked_at(config: Config) -> tuple[list[str], Size]:
    """Return the lines about the user's data, and how many images they hold."""
    crop = config.crop.crop_cells
    seen = look_at(str(config.data), config.index)
    lines = describe(seen, config.index.make_labels, crop.window_px, crop.size_px)
    return lines, Size(seen.roles.total(), seen.classes.total(), config.index.make_folds.folds)


def _trainings(config: Config) -> str:
    """Return the line about what is trained."""
    fold, embed = config.classify.train_fold, config.embed
    parts = ["a segmenter on your masks"] if config.crop.train_segmenter.masks else []
    if config.restore.restore_cells.method == "pix2pix":
        parts.append(f"Pix2Pix ({config.restore.train_gan.steps} steps)")
    parts.append(
        f"{config.index.make_folds.folds} folds of {fold.backbone} ({fold.size_px} px, {fold.epochs} epochs,"
        f" {config.classify.recipe})"
    )
    parts.append(f"a contrastive head on {embed.embed_cells.encoder} ({embed.train_head.epochs} epochs)")
    return f"training: {', '.join(parts)}"


def outlook(config: Config) -> tuple[list[str], dict[str, float | None]]:
    """Return the lines that introduce a run, and the estimated seconds of a job by rule.

    Raises InputError where the data cannot be understood.
    """
    lines, size = _drawn(config) if config.data == SMEARS else _looked_at(config)
    gpu = find_gpu()
    machine = f"{cores()} cores, {f'a GPU ({gpu})' if gpu else 'no GPU'}"
    head = [f"buffycoat {version()}, preset {config.preset}, on {machine}", *lines, _trainings(config)]
    costs = job_seconds(config, size, slowness())
    unknown = [rule for rule in ("train_fold", "embed_cells") if costs[rule] is None]
    if gpu:
        head.append("time: no figure for this GPU; each training says how long it still takes")
    elif unknown:
        head.append(f"time: no figure for {' and '.join(unknown)} with these networks; they say it when they work")
    return [*head, f"results: {os.path.join(os.getcwd(), 'results')}"], costs


def headline(summary: Path, report: Path) -> str:
    """Return macro-F1 of each part, before and after refinement, with intervals, and where the report is.

    `summary` is the JSON that score_labels wrote. Empty where one of the two files is missing.
    """
    if not summary.is_file() or not report.is_file():
        return ""
    lines = []
    for part, entry in read_json(summary)["headline"].items():
        before, after = entry["before_refinement"], entry["after_refinement"]
        lines.append(
            f"macro-F1, {part.replace('_', ' ')} ({before['images']} images):"
            f" {before['macro_f1']:.4f} [{before['low']:.3f}, {before['high']:.3f}] before refinement,"
            f" {after['macro_f1']:.4f} [{after['low']:.3f}, {after['high']:.3f}] after"
        )
    return "\n".join([*lines, f"report: {os.path.abspath(report)}"])


def introduce(config: Config) -> float:
    """Say what a run is about to do; return the time, in seconds since 1970. The display takes `costs` from the record.

    Raises InputError where the data cannot be understood.
    """
    lines, costs = outlook(config)
    log.info("\n".join(lines), extra={"costs": costs})
    return time.time()


def conclude(started: float) -> None:
    """Say the scores of a run that has ended well and where its bundle is, if it has made them.

    `started` is the time of its start, in seconds since 1970.
    """
    # Scores of an older run are none of this one, which may have made something else.
    if REPORT.is_file() and REPORT.stat().st_mtime >= started:
        log.info(headline(SUMMARY, REPORT), extra={"costs": None})
    if BUNDLE.is_file() and BUNDLE.stat().st_mtime >= started:
        log.info("bundle: %s; next: buffycoat predict --bundle %s IMAGES", BUNDLE.parent.resolve(), BUNDLE.parent,
                 extra={"costs": None})  # fmt: skip
