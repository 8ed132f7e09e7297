"""Images that hold the same pixels, and near copies: one picture saved again, resized, shifted a little or turned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from buffycoat.data.images import Pixels, grey_of

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

SIDE, WAVES = 64, 16
"""A look is the slowest WAVES x WAVES waves (cosine transform) of the grey image at SIDE x SIDE pixels."""
STEEPNESS = 1.5
"""Faster waves count more, by this power: what all cells share, a dark disc on light glass, is slow."""
GREY = 2
"""Grey levels by which the channels of a grey image may differ."""
SAMPLED = 250_000
"""Pixels that are compared, at most, to tell a grey image."""
FLAT, INSIDE = 4, 24
"""Grey levels by which a border of one colour may differ, and by which the cell inside does differ from it at least:
such a border, as around a cell that was cut out, is cut off before the look is taken."""
ALIKE = 0.88
"""Looks whose cosine is at least this are of near copies, in any of the eight positions of a square."""
BLOCK, CHUNK = 2048, 8192
"""Images compared with as many others at once, and likely pairs looked at closely at once."""
_ROWS, _COLS = np.mgrid[:WAVES, :WAVES]
_WEIGHTS = (1 + np.hypot(_ROWS, _COLS)) ** STEEPNESS
_ODD_ROWS, _ODD_COLS = (np.where(waves % 2, -1.0, 1.0).ravel().astype(np.float32) for waves in (_ROWS, _COLS))


@dataclass(frozen=True)
class Portrait:
    """What is compared of an image: a digest of its pixels, whether it is grey, and its look (256,) float32.

    The look has length 1; it is zero where the image is of one colour.
    """

    digest: str
    grey: bool
    look: Floats


def portrait_of(pixels: Pixels) -> Portrait:
    """Return the portrait of an image (H, W, 3) uint8."""
    digest = hashlib.blake2b(f"{pixels.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    step = max(1, int(np.sqrt(pixels.shape[0] * pixels.shape[1] / SAMPLED)))
    some = pixels[::step, ::step].astype(np.int16)
    spread = np.abs(some[..., [0, 2]] - some[..., [1]]).max()
    return Portrait(digest.hexdigest(), bool(spread <= GREY), look_of(grey_of(pixels)))


def look_of(grey: Pixels) -> Floats:
    """Return the look (256,) float32 of a grey image (H, W) uint8."""
    small = cv2.resize(trimmed(grey), (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    waves = cv2.dct(small)[:WAVES, :WAVES] * _WEIGHTS
    waves[0, 0] = 0
    length = float(np.linalg.norm(waves))
    # Rounding leaves a blank image waves of a millionth of a grey level.
    return np.asarray(waves.ravel() / length if length > 1 else np.zeros(WAVES**2), np.float32)


def trimmed(grey: Pixels) -> Pixels:
    """Return a grey image without what is of one colour around it, as around a cell that was cut out."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]).astype(np.int16)
    if border.max() - border.min() > FLAT:
        return grey
    inside = np.abs(grey.astype(np.int16) - int(np.median(border))) > INSIDE
    rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return grey[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1] if len(rows) else grey


def _turned(looks: Floats) -> Iterator[Floats]:
    """Yield the looks (n, 256) in the eight positions of a square, the first as they are."""
    across = looks.reshape(-1, WAVES, WAVES).transpose(0, 2, 1).reshape(len(looks), -1)
    for image in (looks, across):
        for rows in (np.float32(1), _ODD_ROWS):
            for cols in (np.float32(1), _ODD_COLS):
                yield image * rows * cols


def _in_any_position(looks: Floats) -> Floats:
    """Return values (n, 256) that no turning changes; the cosine of two of them is no less than that of any position.

    A mirror changes the signs of waves, a quarter turn swaps rows and columns.
    """
    size = np.abs(looks.reshape(-1, WAVES, WAVES))
    other = size.transpose(0, 2, 1)
    upper, diagonal = np.triu_indices(WAVES, 1), np.arange(WAVES)
    parts = [(size + other)[:, *upper], np.abs(size - other)[:, *upper]]
    scale = np.float32(np.sqrt(0.5))
    return np.concatenate([*(part * scale for part in parts), size[:, diagonal, diagonal]], axis=1)


def near_copies(looks: Floats) -> list[tuple[int, int]]:
    """Return pairs (i, j), i < j, of rows of `looks` (n, 256) that are near copies, in order.

    Of a set of images that are alike there are only as many pairs as join the set: a hundred frames of one cell are 99.
    """
    fixed = _in_any_position(looks)
    sets = np.arange(len(looks))
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(looks), BLOCK):
        for other in range(start, len(looks), BLOCK):
            likely = fixed[start : start + BLOCK] @ fixed[other : other + BLOCK].T >= ALIKE - 1e-4
            rows, cols = (places + first for places, first in zip(np.nonzero(likely), (start, other), strict=True))
            pairs += _joining(looks, sets, rows[rows < cols], cols[rows < cols])
    return sorted(pairs)


def _joining(looks: Floats, sets: Places, rows: Places, cols: Places) -> list[tuple[int, int]]:
    """Return those of the likely pairs that are alike and join two sets; `sets` (n,) is changed in place."""
    found = []
    while len(rows):
        apart = sets[rows] != sets[cols]
        rows, cols = rows[apart], cols[apart]
        for i, j in _alike(looks, rows[:CHUNK], cols[:CHUNK]) if len(rows) else []:
            if sets[i] != sets[j]:
                sets[sets == max(sets[i], sets[j])] = min(sets[i], sets[j])
                found.append((i, j))
        rows, cols = rows[CHUNK:], cols[CHUNK:]
    return found


def _alike(looks: Floats, rows: Places, cols: Places) -> list[tuple[int, int]]:
    """Return those of the pairs that are alike in one of the eight positions."""
    seconds = looks[cols]
    best = np.full(len(rows), -1, np.float32)
    for turned in _turned(looks[rows]):
        best = np.maximum(best, np.einsum("nk,nk->n", turned, seconds))
    return [(int(rows[k]), int(cols[k])) for k in np.flatnonzero(best >= ALIKE)]


def first_alike(digests: list[str | None], looks: list[Floats | None]) -> list[int | None]:
    """Return for each image the first of the list that is a near copy, by itself or by way of others; None for none.

    Images of the same pixels are one here: their copies are found by the digest. Images of one colour are no copies.
    """
    first: dict[str, int] = {}
    for k, digest in enumerate(digests):
        look = looks[k]
        if digest is not None and look is not None and look.any():
            first.setdefault(digest, k)
    places = list(first.values())
    parents = list(range(len(digests)))

    def root(k: int) -> int:
        while parents[k] != k:
            parents[k] = parents[parents[k]]
            k = parents[k]
        return k

    if len(places) > 1:
        for i, j in near_copies(np.array([looks[k] for k in places], np.float32)):
            one, two = sorted((root(places[i]), root(places[j])))
            parents[two] = one
    alike = [root(first.get(digest or "", k)) for k, digest in enumerate(digests)]
    return [None if alike[k] == first.get(digest or "", k) else alike[k] for k, digest in enumerate(digests)]
