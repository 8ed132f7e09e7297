"""How many distinct cells pass for near copies, and how many copies are found: real cells and drawn ones.

    python -m benchmarks.copies --data ../shared/data --smears results/0_simulate/smears

`found` is the share of every sixth cell whose copy, after what the key says, is found; `false` counts pairs of others.
Cells that were cut out (by the masks of data/masks, on white) are the hardest: all they share is their outline. Pairs
among the real cells as they are were looked at by eye: each shows one cell that was taken twice.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import pandas as pd
import typer
from PIL import Image

from benchmarks.machine import machine
from buffycoat.core.files import write_json
from buffycoat.core.progress import start_logging, track
from buffycoat.data.channels import Pixels
from buffycoat.data.images import decode_image, grey_of
from buffycoat.index.alike import ALIKE, Floats, look_of, near_copies

EVERY = 6
SIZES = (5_000, 55_012)


def _saved(kind: str, **options: Any) -> Callable[[Pixels], Pixels]:
    def again(image: Pixels) -> Pixels:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, kind, **options)
        return np.asarray(Image.open(stream).convert("RGB"))

    return again


def _resized(scale: float) -> Callable[[Pixels], Pixels]:
    return lambda image: np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def _shifted(share: float) -> Callable[[Pixels], Pixels]:
    return lambda image: np.roll(image, (round(share * image.shape[0]), round(share * image.shape[1])), (0, 1))


def _trimmed(share: float) -> Callable[[Pixels], Pixels]:
    def inner(image: Pixels) -> Pixels:
        rows, cols = (max(1, round(share / 2 * side)) for side in image.shape[:2])
        return image[rows:-rows, cols:-cols]

    return inner


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "JPEG, quality 30": _saved("JPEG", quality=30),
    "WebP, quality 50": _saved("WEBP", quality=50),
    "half the size": _resized(0.5),
    "1.7 times the size": _resized(1.7),
    "brighter by a tenth": lambda image: np.clip(image * 1.1, 0, 255).astype(np.uint8),
    "grey": lambda image: np.repeat(grey_of(image)[..., None], 3, axis=2),
    "a quarter turn, mirrored": lambda image: np.rot90(image[::-1]),
    "shifted by 1 %": _shifted(0.01),
    "shifted by 2 %": _shifted(0.02),
    "cut by 5 %": _trimmed(0.05),
}


def looks_of(images: list[Pixels]) -> Floats:
    """Return the looks (n, 256) of images."""
    return np.array([look_of(grey_of(np.ascontiguousarray(image))) for image in images], np.float32)


def measured(images: list[Pixels]) -> dict[str, Any]:
    """Return the pairs among distinct cells, and the share of copies that are found after each change."""
    looks = looks_of(images)
    some, originals = images[::EVERY], looks[::EVERY]
    found, false = {}, 0
    for name, change in CHANGES.items():
        pairs = near_copies(np.concatenate([originals, looks_of([change(image) for image in some])]))
        hits = sum(second - first == len(some) for first, second in pairs)
        found[name] = round(hits / len(some), 3)
        false += sum(first >= len(some) or second - first != len(some) for first, second in pairs)
    return {"cells": len(images), "pairs": len(near_copies(looks)), "found": found, "false": false}


def cut_out(image: Pixels, mask: Pixels) -> Pixels:
    """Return the masked cell on white, with as much white around it as the image is wide."""
    side = max(image.shape[:2])
    return np.pad(np.where(mask[..., None] > 0, image, 255), ((side // 4,) * 2, (side // 4,) * 2, (0, 0)),
                  constant_values=255).astype(np.uint8)  # fmt: skip


def seconds(count: int) -> float:
    """Return the CPU seconds that comparing so many images takes."""
    values = np.random.default_rng(0).normal(size=(count, 256)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    started = time.process_time()
    near_copies(values)
    return round(time.process_time() - started, 1)


def main(
    data: Annotated[Path, typer.Option(help="The folder of real images, ../shared/data.")],
    smears: Annotated[Path, typer.Option(help="Drawn smears.")] = Path("results/0_simulate/smears"),
    out: Annotated[Path, typer.Option(help="The JSON file.")] = Path("benchmarks/copies.json"),
) -> None:
    """Measure and write the figures."""
    start_logging()
    listed = pd.read_csv(data / "pbc" / "images.csv")["image"]
    masks = pd.read_csv(data / "masks" / "masks.csv")
    sets: dict[str, list[Pixels]] = {
        "pbc": [decode_image(data / "pbc" / name) for name in track(listed, "pbc", total=len(listed))],
        "drawn": [decode_image(path) for path in sorted(smears.rglob("phase*/**/*.jpg"))],
    }
    for name in ("zheng", "bcisc"):
        rows = masks[masks["set"] == name]
        images = [decode_image(data / "masks" / file) for file in rows["image"]]
        inside = [decode_image(data / "masks" / file)[..., 0] for file in rows["mask"]]
        sets[name] = images
        sets[f"{name}, cut out"] = [cut_out(image, mask) for image, mask in zip(images, inside, strict=True)]
    figures = {name: measured(images) for name, images in sets.items() if images}
    times = {str(count): seconds(count) for count in SIZES}
    write_json({"machine": machine(), "threshold": ALIKE, "sets": figures, "cpu_seconds": times}, out)


if __name__ == "__main__":
    typer.run(main)
