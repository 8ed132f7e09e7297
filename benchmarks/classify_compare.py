"""One setting measured: both loops turn by turn, prediction, cropping, and the bars that the figures must clear."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks.classify_loops import (
    Setting,
    apart,
    cut_out,
    listed_cells,
    our_rate,
    plain_rate,
    predict_rates,
    source_images,
)

MOST_WAITING = 0.02
"""Largest share of our epoch that may be spent waiting for batches."""


def spread(values: list[float], digits: int = 1) -> dict[str, Any]:
    """Return median, least, most and the values themselves."""
    return {
        "median": round(statistics.median(values), digits),
        "least": round(min(values), digits),
        "most": round(max(values), digits),
        "values": [round(value, digits) for value in values],
    }


def bar(needed: float, found: float | None, at_least: bool = True) -> dict[str, Any]:
    """Return a bar beside what was found, and whether it is met; null where it was not measured."""
    met = None if found is None else found >= needed if at_least else found <= needed
    return {"at_least" if at_least else "at_most": needed, "found": found, "met": met}


def turns(
    paths: list[str], folder: Path, setting: Setting, labels: Any, classes: int, workers: int, repeats: int, gpu: bool
) -> dict[str, list[dict[str, Any]]]:
    """Return what each loop told, turn by turn: ours, the usual one, and that in our memory format."""
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "plain": [], "plain_channels_last": []}
    for turn in range(repeats):
        runs["ours"].append(apart(gpu, our_rate, folder, setting, labels, classes))
        for name in ("plain", "plain_channels_last"):
            last = name != "plain"
            runs[name].append(apart(gpu, plain_rate, paths, setting, labels, classes, workers, last))
        print(setting.backbone, {name: told[turn] for name, told in runs.items()}, flush=True)
    return runs


def ratios(ours: list[float], other: list[float]) -> dict[str, Any]:
    """Return the ratio of the medians, and the spread of the ratios turn by turn."""
    return {
        "of_medians": round(statistics.median(ours) / statistics.median(other), 3),
        "turn_by_turn": spread([a / b for a, b in zip(ours, other, strict=True)], 3),
    }


def compared(
    paths: list[str], folder: Path, setting: Setting, labels: Any, classes: int, workers: tuple[int, ...], repeats: int,
    gpu: bool,
) -> dict[str, Any]:  # fmt: skip
    """Return the rates of the loops, turn by turn, their ratios, our waiting share, and memory."""
    tried = {
        count: apart(gpu, plain_rate, paths, setting, labels, classes, count, False)["images_per_s"]
        for count in workers
    }
    chosen = max(tried, key=lambda count: tried[count])
    runs = turns(paths, folder, setting, labels, classes, chosen, repeats, gpu)
    rates = {name: [run["images_per_s"] for run in told] for name, told in runs.items()}
    shares = [run["waiting_share"] for run in runs["ours"] if run["waiting_share"] is not None]
    memory = [name for name in runs["ours"][0] if name.endswith("_mib")]
    return {
        "backbone": setting.backbone, "backbone_options": setting.options, "size_px": setting.size_px,
        "batch": setting.batch, "steps": setting.steps, "our_settings": setting.train_fold().model_dump(mode="json"),
        "images_per_s": {name: spread(values) for name, values in rates.items()},
        "ratio": ratios(rates["ours"], rates["plain"]),
        "ratio_channels_last": ratios(rates["ours"], rates["plain_channels_last"]),
        "waiting_share": spread(shares, 4) if shares else None,
        "plain_workers": {"chosen": chosen, "images_per_s_of_one_trial": {k: round(v, 1) for k, v in tried.items()}},
        "memory": {loop: {name: max(run[name] for run in told) for name in memory} for loop, told in runs.items()},
    }  # fmt: skip


def with_bars(figures: dict[str, Any], least_ratio: float) -> dict[str, Any]:
    """Return the figures of one setting with its two bars."""
    waiting = figures["waiting_share"]
    bars = {
        "ratio": bar(least_ratio, figures["ratio"]["of_medians"]),
        "waiting_share": bar(MOST_WAITING, None if waiting is None else waiting["median"], at_least=False),
    }
    return {**figures, "bars": bars}


def prediction(
    folder: Path, setting: Setting, classes: int, batch: int, batches: int, repeats: int, gpu: bool
) -> dict[str, Any]:
    """Return images/s (views count) of prediction in eight views, compiled and as it is."""
    found = apart(gpu, predict_rates, folder, setting, classes, batch, batches, repeats)
    rates = {name: spread(told) if isinstance(told, list) else told for name, told in found.pop("rates").items()}
    return {"views": 8, "batch": batch, "images": batch * batches, "views_per_s": rates, **found}


def measured(
    folder: Path, setting: Setting, unique: int, workers: tuple[int, ...], repeats: int, predict_batch: int, gpu: bool
) -> dict[str, Any]:
    """Return all figures of one setting."""
    source = source_images(folder / "fields", unique)
    crops = folder / f"{setting.backbone}_{setting.size_px}"
    crop_s = apart(gpu, cut_out, source, crops, setting.size_px)
    rows, labels, classes = listed_cells(source, crops, max(setting.steps * setting.batch, 2 * predict_batch))
    figures = compared(rows["image"].tolist(), crops, setting, labels, classes, workers, repeats, gpu)
    batches = max(2, setting.steps * setting.batch // (4 * predict_batch))
    return {
        **figures,
        "prediction": prediction(crops, setting, classes, predict_batch, batches, repeats, gpu),
        "cropping_once": {"images": unique, "s": round(crop_s, 1), "s_per_image": round(crop_s / unique, 4)},
        "source": "drawn" if str(folder) in source["image"].iloc[0] else "real cells of Acevedo et al. 2020",
    }
