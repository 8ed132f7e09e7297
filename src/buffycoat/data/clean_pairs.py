"""Crops of one cell from a degraded image and from its clean form: brought to the same pixels, and compared."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from buffycoat.data.images import Pixels

FURTHEST = 0.25
"""Windows that lie further apart than this share of their side show other cells, or one cell found badly; ours."""


def paired_crops(images: pd.DataFrame, crops: pd.DataFrame) -> pd.DataFrame:
    """Return image_id, original, severity, window_px, down and right of each degraded crop whose clean form is cropped.

    Parameters: the rows of the tables IMAGES and CROPS. down and right are how many pixels of the source the window of
    the degraded crop lies below and to the right of the clean one's; those that are further apart are left out.
    """
    rows = images[images["original"].notna()][["image_id", "original", "severity"]]
    window = crops[["image_id", "row", "col", "window_px"]]
    frame = rows.merge(window, on="image_id").merge(
        window.rename(columns={"image_id": "original"}), on="original", suffixes=("", "_clean")
    )
    # Corners as the cropping rounds them: the windows lie whole pixels apart.
    for name, axis in (("down", "row"), ("right", "col")):
        corners = [np.round(frame[axis + end] - frame["window_px"] / 2) for end in ("", "_clean")]
        frame[name] = corners[0] - corners[1]
    near = frame[["down", "right"]].abs().max(axis=1) <= FURTHEST * frame["window_px"]
    kept = frame[near & (frame["window_px"] == frame["window_px_clean"])]
    return kept[["image_id", "original", "severity", "window_px", "down", "right"]].reset_index(drop=True)


def aligned(clean: Pixels, window_px: int, down: float, right: float) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """Return the clean crop (S, S, 3) moved to where the degraded one lies, and where it has pixels there (S, S).

    `down` and `right` are those of `paired_crops`. Between pixels it is interpolated linearly.
    """
    side = clean.shape[0]
    if down == 0 and right == 0:
        return clean, np.ones((side, side), bool)
    scale = side / window_px
    move = np.array([[1, 0, -right * scale], [0, 1, -down * scale]], np.float32)
    moved = cv2.warpAffine(clean, move, (side, side), flags=cv2.INTER_LINEAR)
    inside = cv2.warpAffine(np.full((side, side), 255, np.uint8), move, (side, side), flags=cv2.INTER_LINEAR) == 255
    return np.asarray(moved, np.uint8), inside


def psnr(image: Pixels, truth: Pixels) -> float:
    """Return the peak signal-to-noise ratio in dB; 100 for equal images."""
    error = float(np.mean((image.astype(np.float64) - truth.astype(np.float64)) ** 2))
    return 100.0 if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(image: Pixels, truth: Pixels) -> float:
    """Return the structural similarity of two (H, W, 3) uint8 images, -1 .. 1 (doi 10.1109/TIP.2003.819861)."""
    from skimage.metrics import structural_similarity

    return float(structural_similarity(image, truth, channel_axis=2))


def likeness(image: Pixels, truth: Pixels, inside: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return PSNR (dB) and SSIM of two crops (S, S, 3) over the rectangle where `inside` (S, S) holds."""
    rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    part = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    return psnr(image[part], truth[part]), ssim(image[part], truth[part])
