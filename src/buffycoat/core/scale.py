"""Yield and scale of cropping: in how many images a cell was found, and how large it is in its window.

It tells what a step made, and changes nothing: so another limit here crops nothing again.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

LEAST_SHARE, MOST_SHARE = 0.35, 0.95
"""Between these shares of the window's side the median diameter of the cells should lie."""
WINDOW_OVER_IMAGE = 1.5
"""A window of more than so many times the image's shorter side shows mostly what is outside."""
MOST_WITHOUT = 0.05
"""Share of images without a cell that is no longer usual for images of single cells."""
TAIL = 5
"""Per cent of the cells that a range leaves out at either end."""
FIGURES = ("images", "found", "window_px", "diameter_px", "share")
SETTING = "crop.crop_cells.window_px"


def scale_of(crops: pd.DataFrame, images: pd.DataFrame) -> dict[str, Any]:
    """Return the figures of yield and scale: lengths in pixels of the source images, `share` of diameter to window.

    Null stands where no cell was found.

    Parameters: crops, rows of the table CROPS; images, their rows of IMAGES (image_id, width, height), in any order.
    A cell's diameter is that of a disc of its area.
    """
    found = crops["found"].to_numpy(bool)
    areas = crops.loc[found, "area_px"].to_numpy(np.float64)
    diameters = np.sqrt(4 * areas / math.pi)
    sizes = images.set_index("image_id").loc[crops["image_id"], ["width", "height"]].astype(float).min(axis=1)
    return {
        "images": len(crops),
        "found": int(found.sum()),
        "several": int((crops["masks"] > 1).sum()),
        "window_px": round(crops["window_px"].median()) if len(crops) else None,
        "image_px": float(sizes.median()) if len(sizes) else None,
        "diameter_px": _spread(diameters),
        "share": _spread(diameters / crops.loc[found, "window_px"].to_numpy(np.float64)),
    }


def _spread(values: np.ndarray) -> dict[str, float] | None:
    """Return median and range of values, None where there are none."""
    if not len(values):
        return None
    low, median, high = (round(float(value), 2) for value in np.percentile(values, [TAIL, 50, 100 - TAIL]))
    return {"low": low, "median": median, "high": high}


def scale_line(figures: dict[str, Any]) -> str:
    """Return the figures in one line."""
    images, found, window, sizes, share = (figures[name] for name in FIGURES)
    line = f"cells found in {found} of {images} images"
    if sizes is None:
        return line
    return (
        f"{line}; median diameter {sizes['median']:.0f} px, {share['median']:.2f} of the window of {window} px"
        f" ({share['low']:.2f} to {share['high']:.2f} in nine of ten cells)"
    )


def scale_sentences(figures: dict[str, Any]) -> list[str]:
    """Return a sentence for each figure that is outside of its limits."""
    images, found, window, sizes, share = (figures[name] for name in FIGURES)
    said = []
    if images and (images - found) / images > MOST_WITHOUT:
        said.append(
            f"no white cell found in {images - found} of {images} images (more than {100 * MOST_WITHOUT:.0f} %):"
            " their centre is used, unmasked, or the ellipse in the box; look at some of them in the report"
        )
    if figures["image_px"] and window > WINDOW_OVER_IMAGE * figures["image_px"]:
        said.append(
            f"the window of {window} px is {window / figures['image_px']:.1f} times the images"
            f" ({figures['image_px']:.0f} px): most of a crop is padding; set {SETTING} to about {_advised(figures)}"
        )
    elif sizes and not LEAST_SHARE <= share["median"] <= MOST_SHARE:
        kind = "small" if share["median"] < LEAST_SHARE else "large"
        said.append(
            f"cells are {kind} in their window: median diameter {sizes['median']:.0f} px of {window} px (usual:"
            f" {LEAST_SHARE} to {MOST_SHARE} of it); set {SETTING} to about {_advised(figures)}"
        )
    return said


def _advised(figures: dict[str, Any]) -> int:
    """Return a window in which the largest usual cell has room; without a cell, one as large as the image."""
    sizes = figures["diameter_px"]
    wanted = 1.3 * sizes["high"] if sizes else figures["image_px"]
    return max(16, round(float(wanted)))
