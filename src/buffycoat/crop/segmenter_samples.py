"""What the embedded segmenter is trained on: views of masked cells, restained, blurred and disturbed at random.

A network that is to serve microscopes it has not seen must not rely on colour or size: both are made arbitrary here.
Every sample depends on (seed, step, place in the batch) alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.crop.embedded_method import CLOSE_UP, canonical, clear_glass, view_of, whole_frame
from buffycoat.crop.framing import core_of
from buffycoat.crop.segmenter import SIDE_PX
from buffycoat.crop.stain import nuclear_stain
from buffycoat.data.degradations import DEGRADATIONS
from buffycoat.data.images import ImageProblem, Pixels, decode_image
from buffycoat.data.random import stream

Bools = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

CELL_LEVEL, NUCLEUS_LEVEL = 128, 255
"""Grey levels of a mask file: cytoplasm (or the whole cell), nucleus; 0 is everything else."""
LEAST_CONTRAST = 0.45
"""Cytoplasm that is stained more than this share as dark as the nucleus cannot be told from it by stain."""
DOUBT = 0.2
"""Half width of the band around the threshold that is in doubt, share of the difference of nucleus and cytoplasm."""
LONGEST_PX = 768
"""Larger images are reduced to this longer side: cells stay far larger than the network's view of them."""
EMPTY_VIEWS = 0.25
"""Share of the samples that show no white cell, where the image has room for that."""


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


@dataclass(frozen=True)
class Sample:
    """One view: canonical colours (S, S, 3) in 0..1, the three maps (3, S, S) of 0 and 1, and where they count."""

    view: Floats
    maps: Floats
    weights: Floats


class Warped(NamedTuple):
    """What a square of a source shows, each (S, S): pixels (.., 3), cells, nuclei, where nuclei and cells are known."""

    pixels: Pixels
    cells: Labels
    nuclei: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]
    inside: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Source:
    """A masked image, its clear glass (3,), its nuclei and where they are known (H, W), and its cells' extents."""

    image: MaskedImage
    clear: Floats
    nuclei: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]
    extents: list[tuple[float, float, float]]


def source_of(image: MaskedImage) -> Source:
    """Return the image with what every sample of it needs; clear glass as the segmenter's first pass sees it."""
    frame = whole_frame(*image.pixels.shape[:2])
    return Source(image, clear_glass(view_of(image.pixels, frame)), *image.clear_nuclei(), image.extents())


def _turn(rng: np.random.Generator, row: float, col: float, side: float) -> npt.NDArray[np.float64]:
    """Return the (2, 3) affine map from image to view: any angle, mirrored or not, stretched by up to 12 %."""
    angle, stretch = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(-0.12, 0.12))
    scale = SIDE_PX / side
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = np.diag([scale * stretch, scale / stretch * rng.choice([-1.0, 1.0])]) @ turn
    shift = np.array([SIDE_PX / 2, SIDE_PX / 2]) - turn @ np.array([col, row])
    return np.hstack([turn, shift[:, None]])


def choose_frame(rng: np.random.Generator, source: Source) -> tuple[float, float, float]:
    """Return (row, col, side) of a random square: half of them close-ups as in the second pass, half wider."""
    height, width = source.image.pixels.shape[:2]
    row, col, extent = source.extents[int(rng.integers(len(source.extents)))]
    if rng.random() < 0.5:
        side = extent * CLOSE_UP * np.exp(rng.normal(0, 0.18))
        jitter = 0.08 * extent
    else:
        widest = max(2.0, 1.1 * max(height, width) / extent)
        side = extent * np.exp(rng.uniform(np.log(1.15), np.log(min(7.0, widest))))
        jitter = 0.35 * max(0.0, side - 0.6 * extent)
    return row + rng.uniform(-jitter, jitter), col + rng.uniform(-jitter, jitter), float(side)


def warp(source: Source, move: npt.NDArray[np.float64]) -> Warped:
    """Return what the square that `move` (2, 3) maps to the view shows."""
    image, size = source.image, (SIDE_PX, SIDE_PX)
    scale = float(np.sqrt(abs(np.linalg.det(move[:, :2]))))
    pixels, fitted = image.pixels, move.copy()
    if scale < 0.7:
        # An affine map takes single pixels: what shrinks is averaged first.
        small = (max(1, round(pixels.shape[1] * scale * 1.4)), max(1, round(pixels.shape[0] * scale * 1.4)))
        pixels = np.asarray(cv2.resize(pixels, small, interpolation=cv2.INTER_AREA), np.uint8)
        fitted[:, :2] /= np.array([small[0] / image.pixels.shape[1], small[1] / image.pixels.shape[0]])
    view = cv2.warpAffine(pixels, fitted, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = np.ones(image.cells.shape, np.float32)
    cells, nuclei, known, seen = (
        np.asarray(cv2.warpAffine(layer.astype(np.float32), move, size, flags=cv2.INTER_NEAREST))
        for layer in (image.cells, source.nuclei, source.known, inside)
    )
    return Warped(np.asarray(view, np.uint8), np.rint(cells).astype(np.int32), nuclei > 0.5, known > 0.5, seen > 0.5)


def empty_view(rng: np.random.Generator, source: Source) -> Warped | None:
    """Return a random square that shows no white cell, or None where chance finds none.

    In such a view the darkest stain, which `canonical` judges by, is that of red cells: it must know them then too.
    """
    height, width = source.image.pixels.shape[:2]
    extent = source.extents[int(rng.integers(len(source.extents)))][2]
    for _ in range(10):
        side = extent * np.exp(rng.uniform(np.log(1.0), np.log(4.0)))
        seen = warp(source, _turn(rng, rng.uniform(0, height), rng.uniform(0, width), float(side)))
        if not seen.cells.any() and seen.inside.mean() > 0.5:
            return seen
    return None


def restain(rng: np.random.Generator, view: Floats, cells: Labels, nuclei: npt.NDArray[np.bool_]) -> Floats:
    """Return the view as other dyes, lamps and cameras would show it, (S, S, 3) in 0..1.

    Optical densities are mixed between channels, scaled and bent; nucleus, cytoplasm and surroundings each get gains of
    their own, so that no colour stands for a part of the cell.
    """
    density = -np.log(np.maximum(view, 1e-3))
    if rng.random() < 0.85:
        strength = rng.uniform(0, 1)
        mixing = np.eye(3) + rng.normal(0, 0.22 * strength, (3, 3))
        density = np.maximum(density @ mixing.astype(np.float32), 0)
        for region in (cells == 0, (cells > 0) & ~nuclei, nuclei):
            gains = np.exp(rng.normal(0, 0.3 * strength, 3) + rng.normal(0, 0.15 * strength))
            share = cv2.GaussianBlur(region.astype(np.float32), (0, 0), 1.0)[..., None]
            density = density * (1 + share * (gains - 1).astype(np.float32))
        bend = np.exp(rng.normal(0, 0.2 * strength))
        density = density ** np.float32(bend)
    if rng.random() < 0.1:
        density = np.repeat(density.mean(axis=2, keepdims=True), 3, axis=2)
    gains = np.exp(rng.normal(0, 0.12) + rng.normal(0, 0.08, 3)).astype(np.float32)
    veil = np.abs(rng.normal(0, 0.03, 3)).astype(np.float32)
    return np.asarray(np.exp(-(density * gains + veil)), np.float32)


def disturb(rng: np.random.Generator, view: Floats) -> Floats:
    """Return the view out of focus, coarse, noisy or badly lit, or as it is."""
    result = view
    if rng.random() < 0.3:
        result = np.asarray(cv2.GaussianBlur(result, (0, 0), rng.uniform(0.4, 2.2)), np.float32)
    if rng.random() < 0.2:
        small = int(SIDE_PX * rng.uniform(0.35, 0.8))
        coarse = cv2.resize(result, (small, small), interpolation=cv2.INTER_AREA)
        result = np.asarray(cv2.resize(coarse, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC), np.float32)
    if rng.random() < 0.4:
        kind = list(DEGRADATIONS)[int(rng.integers(len(DEGRADATIONS)))]
        pixels = np.asarray(np.clip(result * 255, 0, 255), np.uint8)
        # Views are reduced images, in which noise has been averaged: its upper half is never met.
        worst = 2.0 if kind == "coloured_gaussian" else 4.0
        result = np.asarray(DEGRADATIONS[kind](pixels, rng.uniform(0.2, worst), rng) / np.float32(255), np.float32)
    elif rng.random() < 0.3:
        grain = rng.standard_normal(result.shape, dtype=np.float32)
        result = np.asarray(result + grain * np.float32(rng.uniform(0.005, 0.05)), np.float32)
    return np.asarray(np.clip(result, 0.0, 1.0), np.float32)


def add_neighbour(rng: np.random.Generator, other: Source, view: Floats, first: Warped) -> tuple[Floats, Warped]:
    """Return the view with one cell of another image laid beside its own, so that they touch or nearly do."""
    rows, cols = np.nonzero(first.cells > 0)
    if not rows.size:
        return view, first
    radius = np.sqrt(rows.size / np.pi)
    row, col, extent = other.extents[int(rng.integers(len(other.extents)))]
    own = radius * rng.uniform(0.8, 1.2)
    move = _turn(rng, row, col, extent * SIDE_PX / (2 * own))
    angle, gap = rng.uniform(0, 2 * np.pi), (radius + own) * rng.uniform(0.9, 1.1)
    place = np.array([cols.mean() + gap * np.cos(angle), rows.mean() + gap * np.sin(angle)])
    move[:, 2] += place - SIDE_PX / 2
    second = warp(other, move)
    new = (second.cells > 0) & (first.cells == 0)
    share = (cv2.GaussianBlur(new.astype(np.float32), (0, 0), 0.7) * (first.cells == 0))[..., None]
    mixed = view * (1 - share) + canonical(second.pixels, other.clear) * share
    numbered = np.where(new, second.cells + int(first.cells.max()), first.cells).astype(np.int32)
    nuclei = np.where(new, second.nuclei, first.nuclei)
    known = np.where(new, second.known, first.known)
    return np.asarray(mixed, np.float32), first._replace(cells=numbered, nuclei=nuclei, known=known)


def sample_of(sources: list[list[Source]], seed: int, step: int, place: int) -> Sample:
    """Return one training sample; each set of sources is drawn from equally often."""
    rng = stream(seed, "segmenter", step, place)
    own = sources[int(rng.integers(len(sources)))]
    source = own[int(rng.integers(len(own)))]
    empty = empty_view(rng, source) if rng.random() < EMPTY_VIEWS else None
    seen = empty or warp(source, _turn(rng, *choose_frame(rng, source)))
    view = canonical(seen.pixels, source.clear)
    if rng.random() < 0.15:
        view, seen = add_neighbour(rng, own[int(rng.integers(len(own)))], view, seen)
    view = disturb(rng, restain(rng, view, seen.cells, seen.nuclei))
    maps = np.stack([seen.cells > 0, seen.nuclei, core_of(seen.cells)]).astype(np.float32)
    weights = np.stack([seen.inside, seen.inside & seen.known, seen.inside]).astype(np.float32)
    return Sample(view, maps, weights)
