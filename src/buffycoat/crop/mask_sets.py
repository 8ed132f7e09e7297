"""Images with masks drawn by experts, from which the segmenters learn: reading and checking them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from buffycoat.crop.stain import nuclear_stain
from buffycoat.errors import InputError
from buffycoat.images import ImageProblem, Pixels, decode_image

Bools = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int32]

CELL_LEVEL, NUCLEUS_LEVEL = 128, 255
"""Grey levels of a mask file: cytoplasm (or the whole cell), nucleus; 0 is everything else."""
LEAST_CONTRAST = 0.45
"""Cytoplasm that is stained more than this share as dark as the nucleus cannot be told from it by stain."""
DOUBT = 0.2
"""Half width of the band around the threshold that is in doubt, share of the difference of nucleus and cytoplasm."""
LONGEST_PX = 768
"""Larger images are reduced to this longer side: cells stay far larger than the network's view of them."""


@dataclass(frozen=True)
class MaskedImage:
    """One image with its cells: pixels (H, W, 3) uint8, cells numbered from 1 (H, W), nuclei (H, W)."""

    name: str
    pixels: Pixels
    cells: Labels
    nuclei: Bools
    nucleus_marked: bool
    """Whether the experts drew nuclei; otherwise `nuclei` is empty and says nothing."""

    def extents(self) -> list[tuple[float, float, float]]:
        """Return (row, col, longer side) of the bounding square of each cell, pixels."""
        found = []
        for label in range(1, int(self.cells.max()) + 1):
            rows, cols = np.nonzero(self.cells == label)
            if rows.size:
                longer = max(rows.max() - rows.min(), cols.max() - cols.min()) + 1
                found.append(((rows.min() + rows.max()) / 2, (cols.min() + cols.max()) / 2, float(longer)))
        return found

    def clear_nuclei(self) -> tuple[Bools, Bools]:
        """Return nuclei (H, W), and where they are known (H, W): everywhere if the experts drew them.

        Otherwise they are taken from the stain inside each expert's cell, where it leaves no doubt (Otsu's threshold).
        """
        if self.nucleus_marked:
            return self.nuclei, np.ones(self.cells.shape, bool)
        nuclei, known = np.zeros(self.cells.shape, bool), self.cells == 0
        stain = nuclear_stain(self.pixels)
        for label in range(1, int(self.cells.max()) + 1):
            dark, sure = _clear_part(stain, self.cells == label)
            nuclei |= dark
            known |= sure
        return nuclei, known


def _clear_part(stain: npt.NDArray[np.float32], cell: Bools) -> tuple[Bools, Bools]:
    from skimage.filters import threshold_otsu

    values = stain[cell]
    level = float(threshold_otsu(values)) if np.ptp(values) > 0 else 0.0
    low, high = values[values <= level], values[values > level]
    if not low.size or not high.size or float(low.mean()) > LEAST_CONTRAST * float(high.mean()):
        return np.zeros(cell.shape, bool), np.zeros(cell.shape, bool)
    band = DOUBT * float(high.mean() - low.mean())
    dark = cell & (stain > level + band)
    # Dark specks are granules, not nuclei: what an opening removes is in doubt too.
    body = cv2.morphologyEx(dark.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)).astype(bool)
    return body, cell & ((stain < level - band) | body)


def _inside(root: Path, name: str, table: Path, row: int) -> Path:
    try:
        path = (root / name).resolve()
    except (OSError, ValueError, RuntimeError) as problem:
        raise InputError(f"{table}: row {row}: {name[:80]!r} is not a path ({problem})") from None
    if not path.is_relative_to(root.resolve()):
        raise InputError(f"{table}: row {row}: {name!r} leads out of the table's folder")
    return path


def _decoded(path: Path, table: Path, row: int) -> Pixels:
    try:
        return decode_image(path)
    except ImageProblem as problem:
        raise InputError(f"{table}: row {row}: {problem}; mend the file or take the row out") from None


def _reduced(pixels: Pixels, levels: Pixels) -> tuple[Pixels, Pixels]:
    height, width = levels.shape
    scale = LONGEST_PX / max(height, width)
    if scale >= 1:
        return pixels, levels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    smaller = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    return smaller, np.asarray(cv2.resize(levels, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


def masked_image(name: str, pixels: Pixels, levels: Pixels, nucleus_marked: bool) -> MaskedImage:
    """Return an image with the cells of its mask file's grey levels (H, W): each connected region is one cell."""
    pixels, levels = _reduced(pixels, levels)
    # Files that were resized or stored as JPEG hold levels in between: the nearest of the three counts.
    inside = levels >= CELL_LEVEL // 2
    cells = np.asarray(cv2.connectedComponents(inside.astype(np.uint8), connectivity=8)[1], np.int32)
    nuclei = levels >= (CELL_LEVEL + NUCLEUS_LEVEL) // 2
    return MaskedImage(name, pixels, cells, nuclei if nucleus_marked else np.zeros_like(nuclei), nucleus_marked)


def read_mask_set(table: Path) -> list[MaskedImage]:
    """Return the images of a CSV with the columns image, mask and, if some lack nuclei, nucleus_marked (0 or 1).

    Paths are relative to the CSV's folder. Raises InputError, naming file and row, where one is missing, unreadable,
    of another size than its image, or without a cell.
    """
    try:
        frame = pd.read_csv(table, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{table}: no such file; crop.train_segmenter.masks names it") from None
    except OSError as problem:
        raise InputError(f"{table}: cannot be read ({problem.strerror})") from None
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as problem:
        raise InputError(f"{table}: not a CSV ({problem})") from None
    if missing := [name for name in ("image", "mask") if name not in frame.columns]:
        raise InputError(f"{table}: lacks the columns {missing}; found {list(frame.columns)}")
    images = [
        _read_row(table, row, {str(name): str(value) for name, value in entry.items()})
        for row, entry in enumerate(frame.to_dict("records"), 2)
    ]
    if not images:
        raise InputError(f"{table}: has no rows")
    return images


def _read_row(table: Path, row: int, entry: dict[str, str]) -> MaskedImage:
    pixels = _decoded(_inside(table.parent, entry["image"], table, row), table, row)
    levels = _decoded(_inside(table.parent, entry["mask"], table, row), table, row)[..., 0]
    if pixels.shape[:2] != levels.shape:
        raise InputError(f"{table}: row {row}: the mask is {levels.shape}, its image {pixels.shape[:2]}")
    marked = entry.get("nucleus_marked", "1").strip()
    if marked not in ("0", "1"):
        raise InputError(f"{table}: row {row}: nucleus_marked is {marked!r}, not 0 or 1")
    found = masked_image(entry["image"], pixels, np.ascontiguousarray(levels), marked == "1")
    if not found.cells.any():
        raise InputError(f"{table}: row {row}: the mask {entry['mask']!r} has no cell (levels 128 and 255)")
    return found
