"""Pages and spreadsheets: templates filled, pictures for them, everything escaped and written whole."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import jinja2
import numpy as np
import pandas as pd

from buffycoat.core.files import whole_file
from buffycoat.data.images import BACKGROUND, NUCLEUS, Pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = "style.html.j2"
"""The style sheet beside this module, which every page includes."""
CELL_INK, NUCLEUS_INK, WINDOW_INK = (0, 160, 90), (250, 200, 0), (210, 60, 40)
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What makes a spreadsheet compute a cell instead of showing it (OWASP, CSV injection)."""


def environment(package: str) -> jinja2.Environment:
    """Return the environment of a package's templates: everything is escaped, and an undefined name is an error."""
    loader = jinja2.ChoiceLoader([jinja2.PackageLoader(package, "."), jinja2.PackageLoader("buffycoat.data", ".")])
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)


def write_page(template: str, content: dict[str, Any], path: Path, package: str = "buffycoat.report") -> None:
    """Write the page that a template of `package` makes of `content`, UTF-8."""
    text = environment(package).get_template(template).render(**content, style=STYLE)
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


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


def disarmed(value: Any) -> Any:
    """Return a text that a spreadsheet would compute with an apostrophe before it; everything else as it is."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def quoting_of(texts: Iterable[Any]) -> Literal[0, 1]:
    """Return how a CSV of these texts must be quoted; Python's csv takes a lone carriage return for harmless."""
    lone = any(isinstance(text, str) and "\r" in text for text in texts)
    return csv.QUOTE_ALL if lone else csv.QUOTE_MINIMAL


def write_spreadsheet(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, UTF-8, text columns disarmed and numbers to six digits; gaps are empty cells."""
    texts = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])]
    safe = frame.assign(**{name: frame[name].map(disarmed) for name in texts})
    quoting = quoting_of(text for name in texts for text in safe[name])
    with whole_file(path) as partial:
        safe.to_csv(partial, index=False, float_format="%.6g", lineterminator="\n", quoting=quoting)
