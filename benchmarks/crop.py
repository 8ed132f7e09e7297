"""How well the cropping methods find cells and nuclei that experts drew, and how long they take: benchmarks/crop.json.

    make benchmark-crop

Sets: `zheng` (Zheng et al., Micron 107, 2018, data set 1: another microscope and stain, never learnt from), the
held-out halves of `bcisc` (Klipic et al., whole cells only) and `bccd` (fields with any number of cells, each of which
counts), and `drawn` (fields of 368 pixels drawn by the stage simulate). Pictures go to local/benchmark-crop/, as they
show the sets' images.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import typer
from torch import nn

from benchmarks.machine import machine
from benchmarks.segmenter_data import DATA, rows_of
from buffycoat.core.files import write_json
from buffycoat.crop.cellpose_method import load_model, segment_by_cellpose, start_masks
from buffycoat.crop.embedded_method import all_cells, fine_nuclei, rough_nuclei, segment_by_network
from buffycoat.crop.segmenter import load_network
from buffycoat.crop.segmenter_samples import CELL_LEVEL, NUCLEUS_LEVEL, MaskedImage, masked_image
from buffycoat.crop.segmenter_training import Agreement, each_cell, nearest_cell, summarise
from buffycoat.crop.settings import CropCells
from buffycoat.crop.stain import MIN_NUCLEUS_SHARE, WORK_PX, group_lobes, grow_cell, nucleus_map, segment_by_stain
from buffycoat.data.cell_types import CELL_TYPES
from buffycoat.data.images import BACKGROUND, CYTOPLASM, NUCLEUS, Pixels, decode_image
from buffycoat.data.random import stream
from buffycoat.simulate.painting import draw_field, draw_slide

HERE = Path(__file__).parent
PICTURES = HERE.parent / "local" / "benchmark-crop"
SETS = ("zheng", "bcisc", "bccd", "drawn")
FIELDS = ("bccd",)
"""Sets whose images hold several cells, each of which is to be found; of the others the primary cell counts."""
Masks = Callable[[Pixels], list[Pixels]]


def expert_images(name: str) -> list[MaskedImage]:
    """Return the images of a set that a method is judged on; images without a marked cell are left out."""
    found = []
    for row in rows_of(name).query("held_out").itertuples():
        pixels, levels = (decode_image(DATA / "masks" / str(path)) for path in (row.image, row.mask))
        found.append(
            masked_image(str(row.image), pixels, np.ascontiguousarray(levels[..., 0]), bool(row.nucleus_marked == "1"))
        )
    return [image for image in found if image.cells.any()]


def empty_parts() -> list[Pixels]:
    """Return corners of held-out BCCD fields, 300 x 300 pixels, in which experts marked no white cell."""
    parts = []
    for image in expert_images("bccd"):
        height, width = image.cells.shape
        for row, col in ((0, 0), (0, width - 300), (height - 300, 0), (height - 300, width - 300)):
            corner = np.s_[row : row + 300, col : col + 300]
            if not image.cells[corner].any():
                parts.append(np.ascontiguousarray(image.pixels[corner]))
    return parts


def drawn_images(number: int = 130) -> list[MaskedImage]:
    """Return drawn fields of all classes, with a seed that no training uses."""
    found = []
    for k in range(number):
        slide = draw_slide(stream(20_261_125, "slide", k // 4))
        pixels, mask = draw_field(list(CELL_TYPES)[k % len(CELL_TYPES)], slide, stream(20_261_125, "field", k))
        levels = np.where(mask == NUCLEUS, NUCLEUS_LEVEL, np.where(mask == CYTOPLASM, CELL_LEVEL, 0)).astype(np.uint8)
        found.append(masked_image(f"drawn {k}", pixels, levels, True))
    return found


def all_by_stain(image: Pixels) -> list[Pixels]:
    """Return a mask of every cell that the classical method sees in a field."""
    scale = min(1.0, WORK_PX / max(image.shape[:2]))
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    labels = group_lobes(nucleus_map(small))
    masks = []
    for label in np.flatnonzero(np.bincount(labels.ravel()) >= MIN_NUCLEUS_SHARE * labels.size):
        if label:
            nucleus = labels == label
            mask = np.full(labels.shape, BACKGROUND, np.uint8)
            mask[grow_cell(small, nucleus, (labels > 0) & ~nucleus)] = CYTOPLASM
            mask[nucleus] = NUCLEUS
            masks.append(np.asarray(cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_NEAREST), np.uint8))
    return masks


def methods() -> dict[str, tuple[Masks, Masks]]:
    """Return, per method at hand: primary cell of an image (as a list of one or none), and all cells of a field."""
    network = load_network()

    def embedded(image: Pixels) -> list[Pixels]:
        return [segment_by_network(network, [image])[0][0]]

    found: dict[str, tuple[Masks, Masks]] = {
        "stain": (lambda image: [segment_by_stain(image)[0]], all_by_stain),
        "embedded": (embedded, partial(all_cells, network)),
    }
    if weights := os.environ.get("BUFFYCOAT_CELLPOSE_WEIGHTS"):
        found["cellpose"] = cellpose_methods(CropCells(method="cellpose", weights=weights), network)
    return found


def cellpose_methods(settings: CropCells, network: nn.Module) -> tuple[Masks, Masks]:
    """Return Cellpose's primary cell, its nucleus by the embedded network, and all of its cells that hold a nucleus."""
    pool = ThreadPoolExecutor(1)
    model = load_model(settings, pool, 1)
    finish = partial(fine_nuclei, network)

    def primary(image: Pixels) -> list[Pixels]:
        found = segment_by_cellpose(model, [image], partial(rough_nuclei, network), finish)
        return [mask for mask, _ in found]

    def everything(image: Pixels) -> list[Pixels]:
        labels = start_masks(model, [image])[0].result()
        (nuclei,) = rough_nuclei(network, [image])
        size = image.shape[1::-1]
        parts = [cv2.resize((labels == k).astype(np.uint8), size) > 0 for k in range(1, int(labels.max()) + 1)]
        cells = [part for part in parts if (part & nuclei).sum() >= MIN_NUCLEUS_SHARE * part.size]
        fine = finish([image] * len(cells), cells) if cells else []
        return [
            np.where(nucleus, NUCLEUS, np.where(cell, CYTOPLASM, BACKGROUND)).astype(np.uint8)
            for cell, nucleus in zip(cells, fine, strict=True)
        ]

    return primary, everything


def judged(name: str, image: MaskedImage, masks: list[Pixels]) -> list[Agreement]:
    """Return the agreements that one image contributes."""
    if name in FIELDS:
        return each_cell(masks, image)
    return [nearest_cell(masks[0], image)]


def overlay(image: MaskedImage, masks: list[Pixels], side: int = 160) -> Pixels:
    """Return the picture of one image: the method's cell in green and nucleus in yellow, the expert's in white."""
    scale = side / max(image.pixels.shape[:2])
    size = (round(image.pixels.shape[1] * scale), round(image.pixels.shape[0] * scale))
    picture = cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    shown = [(image.cells > 0, (255, 255, 255)), (image.nuclei, (255, 255, 255))]
    for mask in masks:
        shown += [(mask != BACKGROUND, (0, 255, 0)), (mask == NUCLEUS, (255, 255, 0))]
    for region, colour in shown:
        small = cv2.resize(region.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        cv2.drawContours(picture, cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0], -1, colour, 1)
    canvas = np.full((side, side, 3), 255, np.uint8)
    canvas[: size[1], : size[0]] = picture
    return canvas


def write_sheet(path: Path, ranked: list[tuple[float, Pixels]], across: int = 10) -> None:
    """Write a sheet: the worst forty first, then twenty spread over the rest."""
    ordered = [picture for _, picture in sorted(ranked, key=lambda entry: entry[0])]
    rest = ordered[40:]
    chosen = ordered[:40] + rest[:: max(1, len(rest) // 20)][:20]
    chosen += [np.full_like(chosen[0], 255)] * (-len(chosen) % across)
    rows = [np.hstack(chosen[k : k + across]) for k in range(0, len(chosen), across)]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def measure(method: str, name: str, run: Masks, images: list[MaskedImage]) -> dict[str, Any]:
    """Return one row of the result and write its picture sheet."""
    run(images[0].pixels)
    found: list[Agreement] = []
    ranked = []
    seconds = 0.0
    for image in images:
        started = time.perf_counter()
        masks = run(image.pixels)
        seconds += time.perf_counter() - started
        here = judged(name, image, masks)
        found += here
        ranked.append((min(one.cell_iou for one in here), overlay(image, masks)))
    write_sheet(PICTURES / f"{method}_{name}.png", ranked)
    summary = {k: round(v, 4) if isinstance(v, float) else v for k, v in summarise(found)._asdict().items()}
    pixels = sorted({image.pixels.shape[:2] for image in images}, key=lambda size: size[0] * size[1])
    return {
        "method": method,
        "set": name,
        "images": len(images),
        **summary,
        "ms_per_image": round(1000 * seconds / len(images), 1),
        "image_px": "x".join(str(n) for n in pixels[len(pixels) // 2][::-1]),
    }


def main() -> None:
    """Measure every method at hand on every set at hand, on one thread; write benchmarks/crop.json."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    images = {name: drawn_images() if name == "drawn" else expert_images(name) for name in SETS}
    rows, false_cells = [], {}
    empty = empty_parts()
    for method, (primary, everything) in methods().items():
        found = sum(bool((primary(part)[0] != BACKGROUND).any()) for part in empty)
        false_cells[method] = {"images": len(empty), "with_a_false_cell": found}
        print(method, false_cells[method], flush=True)
        for name, part in images.items():
            rows.append(measure(method, name, everything if name in FIELDS else primary, part))
            print(rows[-1], flush=True)
    not_run = [] if "BUFFYCOAT_CELLPOSE_WEIGHTS" in os.environ else ["cellpose: its weights were not at hand"]
    result = {
        "command": "make benchmark-crop",
        "machine": machine(),
        "threads": 1,
        "rows": rows,
        "fields_without_a_white_cell": false_cells,
        "not_run": not_run,
    }
    write_json(result, HERE / "crop.json")


if __name__ == "__main__":
    typer.run(main)
