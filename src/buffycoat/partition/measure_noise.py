"""Step `measure_noise`: noise, blur and light of each crop."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from buffycoat.images import CellImages
from buffycoat.partition.scores import Scores, measure
from buffycoat.partition.settings import MeasureNoise
from buffycoat.partition.window import inside_image
from buffycoat.portions import ALL, gathered, rows_of_portion
from buffycoat.progress import track
from buffycoat.steps import run
from buffycoat.tables.crops import CROPS
from buffycoat.tables.images import IMAGES
from buffycoat.tables.noise_scores import NOISE_SCORES


def score_crops(frame: pd.DataFrame, crops: Path, sizes: pd.DataFrame, threads: int) -> pd.DataFrame:
    """Return the noise scores of the crops `frame`, whose table is `crops`; `sizes` are those of the images."""
    cells = CellImages(frame, crops)
    placed = frame.merge(sizes, on="image_id", how="left", validate="one_to_one")
    places = placed[["row", "col", "window_px", "height", "width"]].to_numpy(np.float64)
    cv2.setNumThreads(1)

    def score(position: int) -> Scores:
        crop, mask = cells.crop(position), cells.mask(position)
        row, col, window_px, height, width = places[position]
        part = inside_image(row, col, window_px, (height, width), crop.shape[0])
        return measure(crop[part], mask[part])

    with ThreadPoolExecutor(max(1, threads)) as pool:
        measured = pool.map(score, range(len(cells)), chunksize=64)
        rows = list(track(measured, "measure_noise", total=len(cells)))
    columns = [column.name for column in NOISE_SCORES.columns if column.name != "image_id"]
    return pd.DataFrame(rows, columns=columns).assign(image_id=frame["image_id"])


def measure_noise(
    *, images: Path, crops: Path, portions: list[Path] | None = None, scores: Path, portion: str = ALL,
    threads: int = 1, settings: MeasureNoise,
) -> None:  # fmt: skip
    """Score the part of every crop that lies inside its image; write the table of noise scores.

    With `portion`, of these crops alone; with `portions`, the tables of all portions, these are put together.
    """
    frame = CROPS.read(crops)
    if portions:
        NOISE_SCORES.write(gathered([NOISE_SCORES.read(path) for path in portions], frame["image_id"], scores), scores)
        return
    sizes = IMAGES.read(images)[["image_id", "width", "height"]]
    NOISE_SCORES.write(score_crops(rows_of_portion(frame, portion), crops, sizes, threads), scores)


if __name__ == "__main__":
    run(measure_noise)
