"""Small pictures that a page carries in itself: cells with outlines, as data addresses."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from buffycoat.images import BACKGROUND, NUCLEUS, Pixels

CELL_INK, NUCLEUS_INK, WINDOW_INK = (0, 160, 90), (250, 200, 0), (210, 60, 40)


def data_address(image: Pixels, quality: int = 85) -> str:
    """Return an RGB image as the JPEG data address of an <img>."""
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not encoded:
        raise RuntimeError("OpenCV cannot encode a picture of the report")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def file_address(path: Path) -> str:
    """Return a PNG file as a data address."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def figure_address(figure: Figure, dpi: int = 110) -> str:
    """Return a figure as a PNG data address."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def sized(image: Pixels, side: int) -> Pixels:
    """Return an image whose longer side is `side` pixels."""
    scale = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def outlined(crop: Pixels, mask: Pixels, side: int) -> Pixels:
    """Return the crop at `side` pixels with the outlines of cell and nucleus, and the cell's farthest point."""
    picture = np.ascontiguousarray(sized(crop, side))
    grown = cv2.resize(mask, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    for inside, ink in ((grown != BACKGROUND, CELL_INK), (grown == NUCLEUS, NUCLEUS_INK)):
        contours = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        cv2.drawContours(picture, contours, -1, ink, 1, cv2.LINE_AA)
        if ink == CELL_INK and contours:
            _mark_farthest(picture, max(contours, key=cv2.contourArea)[:, 0, :])
    return picture


def _mark_farthest(picture: Pixels, contour: np.ndarray) -> None:
    middle = contour.mean(axis=0)
    farthest = contour[np.argmax(np.linalg.norm(contour - middle, axis=1))]
    cv2.circle(picture, (int(farthest[0]), int(farthest[1])), 3, WINDOW_INK, -1, cv2.LINE_AA)


def with_window(image: Pixels, row: float, col: float, window_px: int, side: int) -> Pixels:
    """Return the whole image at `side` pixels with the crop's window drawn in."""
    picture = np.ascontiguousarray(sized(image, side))
    scale = side / max(image.shape[:2])
    half = window_px / 2
    low = (round((col - half) * scale), round((row - half) * scale))
    high = (round((col + half) * scale), round((row + half) * scale))
    cv2.rectangle(picture, low, high, WINDOW_INK, 1, cv2.LINE_AA)
    return picture
