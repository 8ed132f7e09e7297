"""Step `measure_noise`: noise, blur and light of each crop."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import pandas as pd

from buffycoat.images import CellImages
from buffycoat.partition.scores import blur_score, illumination_level
from buffycoat.partition.settings import MeasureNoise
from buffycoat.progress import track
from buffycoat.quality import noise_score
from buffycoat.steps import run
from buffycoat.tables.crops import CROPS
from buffycoat.tables.noise_scores import NOISE_SCORES


def measure_noise(*, crops: Path, scores: Path, threads: int = 1, settings: MeasureNoise) -> None:
    """Score every crop; write the table of noise scores."""
    frame = CROPS.read(crops)
    cells = CellImages(frame, crops)
    cv2.setNumThreads(1)

    def measure(position: int) -> tuple[float, float, float]:
        cells.check(position)
        crop, mask = cells.crop(position), cells.mask(position)
        return noise_score(crop, mask), blur_score(crop, mask), illumination_level(crop, mask)

    with ThreadPoolExecutor(max(1, threads)) as pool:
        measured = pool.map(measure, range(len(cells)), chunksize=64)
        rows = list(track(measured, "measure_noise", total=len(cells)))
    columns = ["noise_score", "blur_score", "illumination"]
    NOISE_SCORES.write(pd.DataFrame(rows, columns=columns).assign(image_id=frame["image_id"]), scores)


if __name__ == "__main__":
    run(measure_noise)
