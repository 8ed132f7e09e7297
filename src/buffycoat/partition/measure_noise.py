"""Step `measure_noise`: noise, blur and light of each crop."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from buffycoat.core.progress import track
from buffycoat.core.steps import run
from buffycoat.data.gather_portions import ALL, rows_of_portion
from buffycoat.data.images import CellImages
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import IMAGES
from buffycoat.data.tables.partition import NOISE_SCORES
from buffycoat.partition.scores import Scores, measure

Part = tuple[slice, slice]


@dataclass(frozen=True)
class NoiseMeter:
    """What scoring noise needs; the scores have no settings."""

    threads: int
    """How many crops are scored side by side."""


def inside_image(row: float, col: float, window_px: float, image: tuple[float, float], size_px: int) -> Part:
    """Return the rows and columns of a crop that lie wholly inside its image; all of them where none does.

    Parameters: row, col, the window's centre in the image, and window_px, its side, source pixels; image (height,
    width), source pixels; size_px, the crop's side. Padding is white and would pass for light and for flat glass.
    """
    rows = _kept(row, window_px, image[0], size_px)
    cols = _kept(col, window_px, image[1], size_px)
    return slice(*rows), slice(*cols)


def _kept(centre: float, window_px: float, length: float, size_px: int) -> tuple[int, int]:
    first = round(centre - window_px / 2)
    before, after, scale = -first, length - first, size_px / window_px
    # Where the window was enlarged, pixels next to the border are blends with the padding.
    blend = max(0.0, (scale - 1) / 2)
    start = max(0, math.ceil(before * scale + blend)) if before > 0 else 0
    stop = min(size_px, math.floor(after * scale - blend)) if after < window_px else size_px
    return (start, stop) if stop > start else (0, size_px)


def apply(crops: pd.DataFrame, meter: NoiseMeter, images: pd.DataFrame, cells: CellImages) -> pd.DataFrame:
    """Return the noise scores (table NOISE_SCORES, grey levels) of the rows of crops, in their order.

    Parameters: images, with image_id, width and height (pixels) of each crop's image; cells, the pixels of `crops`.
    """
    sizes = images[["image_id", "width", "height"]]
    placed = crops.merge(sizes, on="image_id", how="left", validate="one_to_one")
    places = placed[["row", "col", "window_px", "height", "width"]].to_numpy(np.float64)
    cv2.setNumThreads(1)

    def score(position: int) -> Scores:
        crop, mask = cells.crop(position), cells.mask(position)
        row, col, window_px, height, width = places[position]
        part = inside_image(row, col, window_px, (height, width), crop.shape[0])
        return measure(crop[part], mask[part])

    with ThreadPoolExecutor(max(1, meter.threads)) as pool:
        measured = pool.map(score, range(len(cells)), chunksize=64)
        rows = list(track(measured, "measure_noise", total=len(cells)))
    columns = [column.name for column in NOISE_SCORES.columns if column.name != "image_id"]
    return pd.DataFrame(rows, columns=columns).assign(image_id=crops["image_id"])


def measure_noise(
    *, images: Path, crops: Path, scores: Path, portion: str = ALL, threads: int = 1,
) -> None:  # fmt: skip
    """Score the part of every crop that lies inside its image; write the table of noise scores.

    With `portion`, of these crops alone.
    """
    rows = rows_of_portion(CROPS.read(crops), portion)
    NOISE_SCORES.write(apply(rows, NoiseMeter(threads), IMAGES.read(images), CellImages(rows, crops)), scores)


if __name__ == "__main__":
    run(measure_noise)
