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
from buffycoat.progress import track
from buffycoat.steps import run
from buffycoat.tables.crops import CROPS
from buffycoat.tables.images import IMAGES
from buffycoat.tables.noise_scores import NOISE_SCORES


def measure_noise(*, images: Path, crops: Path, scores: Path, threads: int = 1, settings: MeasureNoise) -> None:
    """Score the part of every crop that lies inside its image; write the table of noise scores."""
    frame = CROPS.read(crops)
    cells = CellImages(frame, crops)
    sizes = IMAGES.read(images)[["image_id", "width", "height"]]
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
    NOISE_SCORES.write(pd.DataFrame(rows).assign(image_id=frame["image_id"]), scores)


if __name__ == "__main__":
    run(measure_noise)
