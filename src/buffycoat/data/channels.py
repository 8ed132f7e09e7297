"""Samples of any kind as 8-bit RGB: depths, pages, transparency, backgrounds; what is not plain is told in a note."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import PIL.Image

Pixels = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float64]
Deep = npt.NDArray[np.uint16]

DEPTHS = (8, 10, 12, 14, 16)
"""Bits that cameras give: white is the greatest value of the fewest bits that hold every value of the file."""
OVERSHOOT = 2.0
"""Floating-point values up to this are on a scale from 0 to 1 that a filter overshot."""
LEAST_SEEN = 0.001
"""An alpha channel that lets less than this share of the pixels be seen is empty."""
DEEP_TIFF, PLANAR, DESCRIPTION, LARGEST = 258, 284, 270, 281
"""TIFF tags: bits per sample, planar configuration, description, and largest sample value."""
FLAT = 2
"""Grey levels by which pixels of one colour may differ."""
NEAR = 24
"""Grey levels by which the noise of a JPEG moves pixels beside the cell from the colour around it."""
FRINGE = 3
"""Pixels around a cell that was cut out in which its colour and the background's are mixed."""
BORDER_SHARE, AREA_SHARE, FLAT_SHARE = 0.25, 0.05, 0.7
"""A background is of one colour where it holds so much of the border and of the image, and so much of it is flat."""
LEAST_COLOURS = 32
"""A cell has more colours than this."""
DARKEST_GLASS, MOST_COLOUR = 140, 150
"""Clear glass is brighter than the one (grey level), and its channels differ by less than the other."""


class NotNumbersError(ValueError):
    """An image holds values that are no numbers."""


def as_rgb(image: PIL.Image.Image, data: bytes) -> tuple[Pixels, str]:
    """Return a loaded image's pixels, (H, W, 3) uint8 RGB, and a note on what was not plain; empty for most images.

    `data` are the bytes of the file. Raises NotNumbersError where it holds such.
    """
    pixels, notes = _coloured(image, data)
    pixels, note = on_glass(pixels)
    return pixels, "; ".join(part for part in (*notes, note) if part)


def _coloured(image: PIL.Image.Image, data: bytes) -> tuple[Pixels, list[str]]:
    pages, note = _pages(image)
    if pages:
        values = np.stack([np.asarray(page, np.float64) for page in pages], axis=2)
        pixels, scale = _scaled(values, pages[0].mode, _largest(image))
        return pixels, [note, scale]
    if image.mode.startswith(("I", "F")):
        grey, scale = _scaled(np.asarray(image, np.float64)[..., None], image.mode, _largest(image))
        return np.repeat(grey, 3, axis=2), [note, scale]
    deep = _deep(image, data)
    if deep is not None:
        pixels, scale = _scaled(deep[..., :3], "I;16", _largest(image))
        alpha = _scaled(deep[..., 3:], "I;16", 0)[0][..., 0] if deep.shape[2] == 4 else None
        pixels, clear = (pixels, "") if alpha is None else over_white(pixels, alpha)
        return pixels, [note, scale, clear]
    pixels, clear = _flattened(image)
    return pixels, [note, clear]


def white_level(most: float, mode: str, largest: float = 0) -> float:
    """Return the value that is white in a file whose greatest value is `most`: beyond 16 bits that value itself.

    Parameters: mode, Pillow's ("F...": floating point, which may be on a scale to 1); largest, what the file says of
    its greatest value, 0 where it says nothing.
    """
    if mode.startswith("F") and max(most, largest) <= OVERSHOOT:
        return 1.0
    return next((2.0**bits - 1 for bits in DEPTHS if max(most, largest) <= 2**bits - 1), most)


def _scaled(values: Samples, mode: str, largest: float) -> tuple[Pixels, str]:
    """Return values (H, W, C) with white at 255, and a note where white is not the usual value of the mode."""
    if not np.isfinite(values).all():
        raise NotNumbersError("holds values that are no numbers (NaN or infinity)")
    top = white_level(float(values.max()), mode, largest)
    plain = (65535.0,) if mode.startswith("I;16") else (1.0, 255.0, 65535.0)
    note = f"{math.ceil(math.log2(top + 1))} bits in a file of more: {top:.0f} is white" if top not in plain else ""
    return np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8), note


def _tags(image: PIL.Image.Image) -> dict[int, object]:
    return dict(image.tag_v2) if image.format == "TIFF" else {}  # type: ignore[attr-defined]


def _largest(image: PIL.Image.Image) -> float:
    """Return what a TIFF says of its greatest value, 0 where it says nothing that can be true of 16 bits."""
    told = _tags(image).get(LARGEST, 0)
    values = told if isinstance(told, Sequence) else (told,)
    numbers = [float(value) for value in values if isinstance(value, (int, float))]
    return max((number for number in numbers if 0 < number <= 65535), default=0)


def _pages(image: PIL.Image.Image) -> tuple[list[PIL.Image.Image], str]:
    """Return the three grey pages of a TIFF that are its colours, if they are, and a note on pages."""
    if image.format != "TIFF":
        return [], ""
    try:
        count = int(getattr(image, "n_frames", 1))
        if count == 1:
            return [], ""
        first = f"the first of {count} pages"
        if count != 3 or not (image.mode == "L" or image.mode.startswith("I;16")) or _is_stack(image):
            return [], first
        pages = []
        for number in range(count):
            image.seek(number)
            pages.append(image.copy())
        image.seek(0)
        image.load()
    except (OSError, ValueError, EOFError, SyntaxError, KeyError, TypeError):
        # What is behind the first page is damaged: the first page counts, as if it were alone.
        image.seek(0)
        image.load()
        return [], "the first page; others cannot be read"
    if len({(page.size, page.mode) for page in pages}) > 1:
        return [], first
    return pages, "three grey pages are red, green and blue"


def _is_stack(image: PIL.Image.Image) -> bool:
    """Return whether the file says that its pages are depths or times, and no colours."""
    told = str(_tags(image).get(DESCRIPTION, ""))
    if told.startswith("ImageJ="):
        return "channels=3" not in told and ("slices=" in told or "frames=" in told)
    return "<OME" in told and 'SizeC="3"' not in told


def _deep(image: PIL.Image.Image, data: bytes) -> Samples | None:
    """Return the colours of a file with more than 8 bits that Pillow cuts to the upper 8, where these are not enough.

    The result has 3 or 4 channels; None where every value has its place in 8 bits, or cannot be had.
    """
    if image.mode not in ("RGB", "RGBA", "LA"):
        return None
    tags = _tags(image)
    bits = tags.get(DEEP_TIFF, (8,))
    if not (data[24] == 16 if image.format == "PNG" else isinstance(bits, tuple) and max(bits) > 8):
        return None
    planar = tags.get(PLANAR) == 2
    values = _planes(data) if planar else _samples(data)
    if values is None or values.shape[:2] != image.size[::-1]:
        return None
    enough = white_level(float(values[..., :3].max()), "I;16", _largest(image)) == 65535
    return None if enough and not planar else values.astype(np.float64)


def _samples(data: bytes) -> Deep | None:
    """Return the samples (H, W, 3 or 4) of a file of 16 bits, RGB or RGBA; None where there are no such."""
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3 or values.shape[2] < 3:
        return None
    return np.asarray(values[..., [2, 1, 0, 3][: values.shape[2]]], np.uint16)


def _planes(data: bytes) -> Deep | None:
    """Return the same of a TIFF whose colours are one behind the other, which Pillow misreads above 8 bits."""
    import tifffile

    try:
        values = np.asarray(tifffile.imread(io.BytesIO(data), key=0))
    except Exception:  # Whatever a codec that is absent raises.
        return None
    if values.dtype != np.uint16 or values.ndim != 3 or values.shape[0] not in (3, 4):
        return None
    return np.ascontiguousarray(np.moveaxis(values, 0, -1), np.uint16)


def _flattened(image: PIL.Image.Image) -> tuple[Pixels, str]:
    """Return an image of 8 bits as RGB on white."""
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"), np.uint8), ""
    rgba = np.asarray(image.convert("RGBA"), np.uint8)
    return over_white(rgba[..., :3], rgba[..., 3])


def over_white(pixels: Pixels, alpha: Pixels) -> tuple[Pixels, str]:
    """Return colours over white, and a note; an alpha channel that is empty or of one value is left aside.

    Parameters: pixels (H, W, 3) and alpha (H, W), uint8.
    """
    from PIL import Image

    if int(alpha.min()) == 255:
        return np.ascontiguousarray(pixels), ""
    if alpha.min() == alpha.max() or (alpha > 0).mean() < LEAST_SEEN:
        return np.ascontiguousarray(pixels), f"an empty alpha channel is left aside (at most {alpha.max()} of 255)"
    rgba = Image.fromarray(np.dstack([pixels, alpha]))
    white = Image.new("RGBA", rgba.size, "white")
    return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"), np.uint8), "transparent pixels are white"


def on_glass(pixels: Pixels) -> tuple[Pixels, str]:
    """Return an image whose cells were cut out, with white in the place of the one colour around them, and a note.

    An image is left alone where its border is not of one colour, or that colour may be clear glass, or what is inside
    has too few colours for a cell, as in a drawn mask.
    """
    colour = _border_colour(pixels)
    if colour is None:
        return pixels, ""
    away = np.abs(pixels.astype(np.int16) - colour).max(axis=2).astype(np.uint8)
    # JPEG smears strong colours farther than grey levels, and no cell has them.
    outside = _joined_to_border(away <= (2 * NEAR if colour.max() - colour.min() > MOST_COLOUR else NEAR))
    area = float(outside.mean())
    if not AREA_SHARE <= area < 1 or (away[outside] <= FLAT).mean() < FLAT_SHARE:
        return pixels, ""
    if len(np.unique(_codes(pixels[~outside]))) < LEAST_COLOURS:
        return pixels, ""
    ring = np.ones((2 * FRINGE + 1, 2 * FRINGE + 1), np.uint8)
    beside = cv2.dilate(outside.view(np.uint8), ring).astype(bool)
    outside |= beside & (away.astype(np.int16) * 2 < cv2.dilate(away, ring))
    name = "black" if colour.max() <= NEAR else f"of one colour ({', '.join(map(str, colour))})"
    return np.where(outside[..., None], np.uint8(255), pixels), f"background {name}: {100 * area:.0f} % made white"


def _border_colour(pixels: Pixels) -> npt.NDArray[np.int16] | None:
    """Return the commonest colour of an image's border where it is common enough, and no glass."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).astype(np.int16)
    values, counts = np.unique(_codes(border), return_counts=True)
    commonest = int(values[counts.argmax()])
    colour = np.array([commonest >> 16, commonest >> 8 & 255, commonest & 255], np.int16)
    is_glass = colour.mean() >= DARKEST_GLASS and colour.max() - colour.min() <= MOST_COLOUR
    same = (np.abs(border - colour).max(axis=1) <= FLAT).mean()
    return None if is_glass or same < BORDER_SHARE else colour


def _codes(colours: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    """Return colours (n, 3) as numbers (n,)."""
    wide = colours.astype(np.int32)
    return (wide[:, 0] << 16) | (wide[:, 1] << 8) | wide[:, 2]


def _joined_to_border(near: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the parts of a region (H, W) that touch the image's border."""
    labels = cv2.connectedComponents(near.view(np.uint8), connectivity=4)[1]
    touching = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.isin(labels, touching[touching > 0])
