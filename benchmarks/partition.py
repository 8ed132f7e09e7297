"""Measures the scores of the stage `partition`: how well they tell degraded crops, how often they err, how fast.

    python -m benchmarks.partition --data ../shared/data

Writes benchmarks/partition.json. Real cells (a folder with pbc/images.csv) are left out where they are absent.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import pandas as pd
import typer
from scipy.ndimage import median_filter
from sklearn.metrics import roc_auc_score

from benchmarks.machine import machine
from buffycoat.core.files import write_json
from buffycoat.crop.framing import frame_cell
from buffycoat.crop.stain import segment_by_stain
from buffycoat.data.cell_types import CELL_TYPES
from buffycoat.data.degradations import DEGRADATIONS
from buffycoat.data.images import CellImages, Pixels, ShardWriter, cell_of, decode_image, grey_of, mean_residual
from buffycoat.data.random import stream
from buffycoat.partition.flag_noisy import compared_noise, judge
from buffycoat.partition.scores import measure
from buffycoat.partition.settings import FlagNoisy
from buffycoat.simulate.painting import draw_field, draw_slide

SEED = 1
SHARED = Path("../shared/data")
SEVERITIES = (1, 2, 3, 4)
OVER: tuple[Literal["field", "cell"], ...] = ("field", "cell")
SIZES: dict[str, tuple[tuple[int, int], ...]] = {"simulated": ((224, 224), (224, 64)), "real": ((280, 128), (224, 224))}
"""Window in source pixels and side of the crop: of the paper and the demo, of the preset `laptop` and the paper."""
Cells = list[tuple[Pixels, Pixels]]
Sizes = tuple[tuple[int, int], ...]
Frames = dict[tuple[str, int], pd.DataFrame]


def drawn_cells(number: int) -> Cells:
    """Return drawn fields and their true masks: all classes alike, seven fields a slide."""
    codes = list(CELL_TYPES)
    slides = [draw_slide(stream(SEED, "slide", k)) for k in range(number // 7 + 1)]
    return [draw_field(codes[k % len(codes)], slides[k // 7], stream(SEED, "field", k)) for k in range(number)]


def real_cells(data: Path, number: int) -> Cells:
    """Return a random sample of the real images and their masks by the method `stain`."""
    names = pd.read_csv(data / "pbc" / "images.csv")["image"].sample(number, random_state=SEED)
    images = [decode_image(data / "pbc" / name) for name in names]
    return [(image, segment_by_stain(image)[0]) for image in images]


def scores_of(cells: Cells, sizes: Sizes, kind: str = "none", severity: int = 0) -> dict[tuple[int, int], pd.DataFrame]:
    """Return the scores of the cells per size, degraded before they are cut out, with the masks of the sound images."""
    rows: dict[tuple[int, int], list[dict[str, float]]] = {size: [] for size in sizes}
    for k, (image, mask) in enumerate(cells):
        worse = DEGRADATIONS[kind](image, severity, stream(SEED, kind, severity, k)) if severity else image
        for window, size in sizes:
            framed = frame_cell(worse, mask, 1, window, size)
            rows[window, size].append(asdict(measure(framed.crop, framed.mask)))
    return {size: pd.DataFrame(scores) for size, scores in rows.items()}


def all_scores(cells: Cells, sizes: Sizes) -> dict[tuple[int, int], Frames]:
    """Return per size the scores of every kind and severity."""
    frames: dict[tuple[int, int], Frames] = {size: {} for size in sizes}
    for kind in DEGRADATIONS:
        for severity in SEVERITIES:
            for size, scores in scores_of(cells, sizes, kind, severity).items():
                frames[size][kind, severity] = scores
    return frames


def compared(frame: pd.DataFrame, clean: pd.DataFrame, kind: str) -> dict[str, Any]:
    """Return the scores that are meant for a kind; the usual light is that of the clean crops."""
    if kind == "blur":
        return {"blur_score": frame["blur_score"]}
    if kind == "illumination":
        both = pd.concat([clean, frame], ignore_index=True)
        judged, _ = judge(both, np.arange(len(both)) < len(clean), FlagNoisy())
        return {"light_deviation": judged["light_deviation"][len(clean) :]}
    return {"noise over field": compared_noise(frame, "field"), "noise over cell": compared_noise(frame, "cell")}


def areas_under_roc(clean: pd.DataFrame, frames: Frames) -> dict[str, dict[str, list[float]]]:
    """Return per kind and score the area under the ROC curve against clean crops, at severities 1 to 4."""
    areas: dict[str, dict[str, list[float]]] = {}
    for kind in DEGRADATIONS:
        sound = compared(clean, clean, kind)
        for severity in SEVERITIES:
            for name, values in compared(frames[kind, severity], clean, kind).items():
                truth = np.repeat([0, 1], [len(sound[name]), len(values)])
                area = roc_auc_score(truth, np.concatenate([sound[name], values]))
                areas.setdefault(kind, {}).setdefault(name, []).append(round(float(area), 4))
    return areas


def wilson(hits: int, number: int) -> list[float]:
    """Return the 95 % Wilson interval of a share."""
    z, share = 1.959964, hits / number
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    half = z * np.sqrt(share * (1 - share) / number + z**2 / (4 * number**2)) / (1 + z**2 / number)
    return [round(float(max(0.0, middle - half)), 4), round(float(middle + half), 4)]


def flagged(clean: pd.DataFrame, frames: Frames, degraded: float, settings: FlagNoisy) -> dict[str, Any]:
    """Return what is flagged when `degraded` of the training rows are, in equal parts of all kinds and severities.

    The first half of the clean rows and as many degraded ones as that takes are for training; all clean rows, and
    all rows of every kind at severity 2 and up, are judged.
    """
    rng = stream(SEED, "mixture", round(100 * degraded))
    half = clean.iloc[: len(clean) // 2]
    number = round(len(half) * degraded / (1 - degraded))
    pool = pd.concat(list(frames.values()), ignore_index=True)
    mixed = pd.concat([half, pool.iloc[rng.integers(0, len(pool), number)]], ignore_index=True)
    worse = {kind: pd.concat([frames[kind, s] for s in (2, 3, 4)], ignore_index=True) for kind in DEGRADATIONS}
    judged, summary = judge(
        pd.concat([mixed, clean, *worse.values()], ignore_index=True),
        np.arange(len(mixed) + len(clean) + sum(map(len, worse.values()))) < len(mixed),
        settings,
    )
    sound = judged.iloc[len(mixed) : len(mixed) + len(clean)]
    result: dict[str, Any] = {
        "degraded_training_share": degraded,
        "training_rows": len(mixed),
        "clean_rows": len(sound),
        "noise_level": round(summary["level"], 3),
        "blur_level": round(summary["blur"]["level"], 4),
    }
    for name in ("noisy", "blurred", "badly_lit"):
        hits = int(sound[name].sum())
        result[f"clean_{name}"] = {"share": round(hits / len(sound), 4), "interval_95": wilson(hits, len(sound))}
    start = len(mixed) + len(clean)
    verdicts = {"blur": "blurred", "illumination": "badly_lit"}
    for kind, frame in worse.items():
        found = judged[verdicts.get(kind, "noisy")].iloc[start : start + len(frame)]
        result[f"found_{kind}"] = round(float(found.mean()), 4)
        start += len(frame)
    return result


def seconds_per(call: Any, repeats: int) -> float:
    """Return processor seconds of one call, the least of five rounds: other programs take turns, not cycles."""
    rounds = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(repeats):
            call()
        rounds.append((time.process_time() - start) / repeats)
    return min(rounds)


def speed(cells: Cells, window: int, size: int) -> dict[str, Any]:
    """Return crops per second of one core: the scores alone, with reading checked shards, and the SciPy median."""
    cv2.setNumThreads(1)
    crops = [frame_cell(image, mask, 1, window, size) for image, mask in cells[:64]]
    with tempfile.TemporaryDirectory() as folder:
        with ShardWriter(Path(folder), size) as writer:
            places = [writer.add(str(k), framed.crop, framed.mask) for k, framed in enumerate(crops)]
        table = pd.DataFrame(places, columns=["shard", "shard_row", "crc32"]).assign(image_id=range(len(crops)))
        shards = CellImages(table, Path(folder) / "crops.parquet")
        alone = seconds_per(lambda: [measure(framed.crop, framed.mask) for framed in crops], 8) / len(crops)
        read = seconds_per(lambda: [measure(crop, mask) for _, crop, mask in shards], 8) / len(crops)

    def by_scipy() -> None:
        for framed in crops[:8]:
            grey = grey_of(framed.crop)
            mean_residual(grey, median_filter(grey, 3), cell_of(framed.mask))

    scipy_seconds = seconds_per(by_scipy, 1) / 8
    return {
        "size_px": size,
        "crops_per_s": round(1 / alone),
        "crops_per_s_with_reading": round(1 / read),
        "crops_per_s_noise_by_scipy": round(1 / scipy_seconds),
        "times_as_fast_as_scipy": round(scipy_seconds / alone, 1),
    }


def benchmark(
    data: Annotated[Path, typer.Option(help="folder of the real cells", envvar="BUFFYCOAT_DATA")] = SHARED,
    drawn: Annotated[int, typer.Option(help="drawn cells")] = 400,
    real: Annotated[int, typer.Option(help="real cells, clean")] = 1500,
    degraded: Annotated[int, typer.Option(help="of the real cells, those that are also degraded")] = 300,
    result: Annotated[Path, typer.Option()] = Path(__file__).parent / "partition.json",
) -> None:
    """Measure everything and write it."""
    cells = {"simulated": drawn_cells(drawn)}
    if (data / "pbc" / "images.csv").is_file():
        cells["real"] = real_cells(data, real)
    parts: dict[str, Any] = {}
    for source, sample in cells.items():
        clean_at = scores_of(sample, SIZES[source])
        frames_at = all_scores(sample[: degraded if source == "real" else drawn], SIZES[source])
        for (window, size), clean in clean_at.items():
            frames = frames_at[window, size]
            parts[f"{source}, window {window} px, crop {size} px"] = {
                "areas_under_roc_severity_1_to_4": areas_under_roc(clean, frames),
                "flagged": {
                    over: [flagged(clean, frames, share, FlagNoisy(noise_over=over)) for share in (0.0, 0.2, 0.5, 0.7)]
                    for over in OVER
                },
            }
    report = {
        "command": "make benchmark-partition",
        "machine": machine(),
        "parts": parts,
        "speed_of_one_core": [speed(cells["simulated"], 224, size) for size in (224, 128)],
    }
    write_json(report, result)


if __name__ == "__main__":
    typer.run(benchmark)
