"""Which part of a crop shows the image, and which is padding."""

from __future__ import annotations

import math

Part = tuple[slice, slice]


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
