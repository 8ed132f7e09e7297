"""Step `restore_cells`: noisy crops restored, guarded one by one; every other crop is passed on as it is."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from buffycoat.core.errors import InputError
from buffycoat.core.files import whole_folder
from buffycoat.core.progress import Progress
from buffycoat.core.steps import run
from buffycoat.data.images import (
    BACKGROUND,
    NUCLEUS,
    CellImages,
    Pixels,
    ShardWriter,
    grey_of,
    noise_score,
    relative_shard,
)
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.partition import NOISE
from buffycoat.data.tables.restore import CELLS, REFUSED
from buffycoat.data.tables.schema import require_same_keys
from buffycoat.nets.device import pick_device
from buffycoat.nets.weights import read_weights
from buffycoat.restore.gan import generator_of, restored_by
from buffycoat.restore.settings import RestoreCells

log = logging.getLogger("buffycoat")
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
RIM = 0.05
"""How far outside the mask a cell is looked for, as a share of the crop's side."""
LEAST_CONTRAST = 0.5
"""A part whose contrast falls below this share of what it was has vanished: its area counts as 0."""
MAX_NUCLEUS_CHANGE = 0.2
"""Restorations are refused that change the nucleus's area by more than this share, either way; ours."""
MAX_CELL_CHANGE = 0.15
"""The same for the cell's area; ours."""


@dataclass(frozen=True)
class Verdict:
    """Whether the restored pixels are used, the measurements before and after, and why."""

    restored: bool
    noise_before: float
    noise_after: float
    nucleus_change: float
    cell_change: float
    reason: str


@dataclass(frozen=True)
class Regions:
    """Where the mask says that the parts of a crop are, all (H, W) bool."""

    nucleus: Bools
    cytoplasm: Bools
    cell: Bools
    near: Bools
    """The cell and its rim."""
    glass: Bools
    """Outside of both, without the padding of windows that leave their image."""


def smooth_grey(image: Pixels) -> Floats:
    """Return the grey level after a 5x5 median filter per channel and a slight Gaussian, (H, W) float32, 0..255.

    Per channel and by median, because clipped noise shifts the mean of an almost white or black channel.
    """
    grey = grey_of(np.asarray(cv2.medianBlur(image, 5), np.uint8))
    return np.asarray(cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.0), np.float32)


def regions_of(original: Pixels, mask: Pixels) -> Regions:
    """Return the regions of a crop (H, W, 3) with its mask (H, W); a mask without a nucleus is split by Otsu."""
    cell = mask != BACKGROUND if (mask != BACKGROUND).any() else np.ones(mask.shape, bool)
    nucleus = mask == NUCLEUS
    if not nucleus.any():
        grey = smooth_grey(original)
        levels = grey[cell].astype(np.uint8).reshape(-1, 1)
        nucleus = cell & (grey <= cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0])
    reach = 2 * max(1, round(RIM * mask.shape[0])) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    near = cv2.dilate(cell.astype(np.uint8), disc).astype(bool)
    padding = (cv2.medianBlur(original, 5) == 255).all(axis=2)
    return Regions(nucleus, cell & ~nucleus, cell, near, ~near & ~padding)


def part_areas(image: Pixels, regions: Regions) -> tuple[float, float, float, float]:
    """Return nucleus area and cell area, pixels, and the contrast of each, as a share of the glass's grey level.

    The nucleus is what is darker than the midpoint between the median levels of nucleus and cytoplasm; the cell what is
    darker than the midpoint between cytoplasm and glass (the 90th percentile of the surroundings). A part without
    pixels to take a level from has area and contrast 0.
    """
    grey = smooth_grey(image)
    dark = float(np.median(grey[regions.nucleus])) if regions.nucleus.any() else 0.0
    middle = float(np.median(grey[regions.cytoplasm])) if regions.cytoplasm.any() else dark
    clear = float(np.percentile(grey[regions.glass], 90)) if regions.glass.any() else middle
    nucleus = float((grey[regions.cell] < (dark + middle) / 2).sum()) if middle > dark else 0.0
    cell = float((grey[regions.near] < (middle + clear) / 2).sum()) if clear > middle else 0.0
    scale = max(clear, 1.0)
    return nucleus, cell, (middle - dark) / scale, (clear - middle) / scale


def area_changes(original: Pixels, restored: Pixels, mask: Pixels) -> tuple[float, float]:
    """Return by what share the areas of nucleus and cell differ from the original's: 0 the same, -1 gone, 1 twice.

    Parameters: original, restored (H, W, 3) uint8; mask (H, W) uint8. A part that the original does not show (no
    contrast to be measured against) counts as unchanged.
    """
    regions = regions_of(original, mask)
    before, after = part_areas(original, regions), part_areas(restored, regions)
    nucleus, cell = (
        _change(before[part], after[part], before[2 + part] * LEAST_CONTRAST, after[2 + part]) for part in (0, 1)
    )
    return nucleus, cell


def _change(before: float, after: float, least_contrast: float, contrast: float) -> float:
    if before == 0:
        return 0.0
    return -1.0 if contrast < least_contrast else after / before - 1


def judge_restoration(original: Pixels, restored: Pixels, mask: Pixels, guard: bool) -> Verdict:
    """Return the verdict on one crop; without a guard every restoration is used, measured all the same.

    Parameters: original, restored (H, W, 3) uint8; mask (H, W) uint8.
    """
    noise = noise_score(original, mask), noise_score(restored, mask)
    nucleus, cell = area_changes(original, restored, mask)
    measured = f"noise score {noise[0]:.1f} to {noise[1]:.1f}, nucleus area {nucleus:+.0%}, cell area {cell:+.0%}"
    refusals = []
    if noise[1] >= noise[0]:
        refusals.append(f"noise score {noise[0]:.1f} would become {noise[1]:.1f}")
    for part, change, limit in (
        ("nucleus", nucleus, MAX_NUCLEUS_CHANGE),
        ("cell", cell, MAX_CELL_CHANGE),
    ):
        if abs(change) > limit:
            refusals.append(f"{part} area would change by {change:+.0%}, limit {limit:.0%}")
    if not guard:
        return Verdict(True, *noise, nucleus, cell, f"restored, unguarded: {measured}")
    if refusals:
        return Verdict(False, *noise, nucleus, cell, f"refused: {'; '.join(refusals)}")
    return Verdict(True, *noise, nucleus, cell, f"restored: {measured}")


PLACE = ("shard", "shard_row", "crc32")
"""The columns that tell where pixels are."""
Restore = Callable[[Pixels], Pixels]
"""(n, H, W, 3) uint8 to the same, restored."""
RESTORE_BATCH = 32
"""Crops restored at once; ours, as many as the published training takes (arXiv 2603.16249)."""


@dataclass(frozen=True)
class Restorer:
    """What restoring needs."""

    restore: Restore | None
    """Crops to restored crops; None where noisy crops are kept as they are."""
    settings: RestoreCells
    """Whether there is a guard."""


def _median(generator: list[Path]) -> Restore:
    return lambda crops: np.stack([cv2.medianBlur(crop, 3) for crop in crops])


def _pix2pix(generator: list[Path]) -> Restore:
    if not generator:
        raise InputError("restore.restore_cells: method pix2pix needs the trained generator (--generator FILE)")
    weights, about = read_weights(generator[0])
    network = generator_of(about)
    network.load_state_dict(weights)
    device = pick_device()
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lambda crops: restored_by(network, crops, about["depth"], RESTORE_BATCH, device)


METHODS: dict[str, Callable[[list[Path]], Restore]] = {"median": _median, "pix2pix": _pix2pix}


def load_restorer(settings: RestoreCells, generator: list[Path]) -> Restorer:
    """Return what the settings choose; raises InputError where it needs the file `generator` and there is none."""
    return Restorer(None if settings.method == "keep" else METHODS[settings.method](generator), settings)


def restore_noisy(
    cells: CellImages, noisy: list[int], restore: Restore, settings: RestoreCells, writer: ShardWriter
) -> dict[int, dict[str, Any]]:
    """Return, per position in `noisy`, the verdict and the place of the restored pixels, refused ones too."""
    progress = Progress("restore_cells", len(noisy))
    changes: dict[int, dict[str, Any]] = {}
    for start in range(0, len(noisy), RESTORE_BATCH):
        batch = noisy[start : start + RESTORE_BATCH]
        for place, better in zip(batch, restore(cells.crops(batch)), strict=True):
            mask = cells.mask(place)
            verdict = judge_restoration(cells.crop(place), better, mask, settings.guard)
            shard, row, crc32 = writer.add(cells.ids[place], better, np.array(mask))
            changes[place] = {**vars(verdict), "shard": shard, "shard_row": row, "crc32": crc32}
            progress.step()
    return changes


def _passed_on(frame: pd.DataFrame, crops: Path, cells: Path) -> pd.DataFrame:
    """Return the rows of cells that point to the crops themselves."""
    back = os.path.relpath(crops.parent, cells.parent)
    return pd.DataFrame(
        {
            "image_id": frame["image_id"],
            "shard": [Path(os.path.normpath(os.path.join(back, shard))).as_posix() for shard in frame["shard"]],
            "shard_row": frame["shard_row"],
            "crc32": frame["crc32"],
            "restored": False,
            "noise_before": frame["noise_score"],
            "noise_after": np.nan,
            "nucleus_change": np.nan,
            "cell_change": np.nan,
            "reason": np.where(frame["noisy"], "noisy, kept: restoration is off", "clean"),
        }
    ).astype({"reason": object, "shard": object})


def refused_rows(ids: pd.Series, changes: dict[int, dict[str, Any]]) -> pd.DataFrame:
    """Return where the pixels of refused restorations are."""
    rows = [
        {"image_id": ids.iloc[place], **{name: change[name] for name in PLACE}}
        for place, change in changes.items()
        if not change["restored"]
    ]
    return pd.DataFrame(rows, columns=["image_id", *PLACE])


def with_changes(table: pd.DataFrame, changes: dict[int, dict[str, Any]]) -> pd.DataFrame:
    """Return the table of cells with the verdicts on those at the places of `changes`; refused ones keep their place.

    Column by column: to write cell by cell into a frame of millions takes hours.
    """
    told = pd.DataFrame(list(changes.values()), index=pd.Index(changes))
    used = told[told["restored"]] if changes else told
    result = table.copy()
    for column in told.columns:
        # A refused crop keeps its place among the originals.
        new = used[column] if column in PLACE else told[column]
        values = table[column].to_numpy(copy=True)
        values[new.index] = new.to_numpy()
        result[column] = values
    return result


def apply(
    crops: pd.DataFrame, restorer: Restorer, noise: pd.DataFrame, cells: CellImages, shards: Path, table: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of cells (table CELLS), in the order of the crops, and of refused ones (table REFUSED).

    Writes the shards of what was restored whole. Parameters: noise, the rows of the table NOISE of the same images;
    cells, the pixels of `crops`; shards, the folder that is written; table, the file that the rows are for: they name
    shards relative to its folder.
    """
    frame = crops.merge(noise, on="image_id", validate="one_to_one")
    noisy = [int(place) for place in np.flatnonzero(frame["noisy"])]
    changes: dict[int, dict[str, Any]] = {}
    with whole_folder(shards) as folder:
        if noisy and restorer.restore is not None:
            with ShardWriter(folder, cells.crop(0).shape[0]) as writer:
                changes = restore_noisy(cells, noisy, restorer.restore, restorer.settings, writer)
    for change in changes.values():
        change["shard"] = relative_shard(shards, change["shard"], table)
    restored = with_changes(_passed_on(frame, cells.table, table), changes)
    log.info("%d noisy crops, %d restored", len(noisy), int(restored["restored"].sum()))
    return restored, refused_rows(frame["image_id"], changes)


def restore_cells(
    *,
    crops: Path,
    noise: Path,
    generator: list[Path] | None = None,
    cells: Path,
    refused: Path,
    shards: Path,
    settings: RestoreCells,
) -> None:
    """Restore the noisy crops that gain by it; write the tables of cells and of refused ones, and their shards."""
    rows, scores = CROPS.read(crops), NOISE.read(noise)
    require_same_keys(scores["image_id"], rows["image_id"], str(noise))
    restorer = load_restorer(settings, generator or [])
    table, refused_table = apply(rows, restorer, scores, CellImages(rows, crops), shards, cells)
    REFUSED.write(refused_table, refused)
    CELLS.write(table, cells)


if __name__ == "__main__":
    run(restore_cells)
