"""Crops of one cell from a degraded image and from its clean form: brought to the same pixels, and compared."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from buffycoat.data.images import CellImages, Pixels

MOST = 300
"""Pairs compared per severity, spread evenly over the data: enough for a steady mean, few enough to cost seconds."""
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


def against_clean_forms(
    images: pd.DataFrame, cells: pd.DataFrame, before: CellImages, after: CellImages, crops: pd.DataFrame
) -> list[dict[str, Any]]:
    """Return, by severity, PSNR and SSIM of crops and of what the models see against the clean forms of both.

    Parameters: the rows of IMAGES and CELLS, the pixels of the crops and of the cells, and the rows of CROPS. Of what
    was restored the figures are given by themselves; None where nothing was. Empty where the data give no pairs.
    """
    pairs = paired_crops(images, crops).merge(cells[["image_id", "restored"]], on="image_id")
    pairs["severity"] = pairs["severity"].fillna("unknown")
    places = [{image_id: place for place, image_id in enumerate(held.ids)} for held in (before, after)]
    lines = []
    for severity, rows in pairs.groupby("severity", sort=True):
        chosen = rows.iloc[:: max(1, -(-len(rows) // MOST))]
        values = np.array([_compared(row, before, after, places) for row in chosen.itertuples()])
        restored = chosen["restored"].to_numpy(bool)
        lines.append(
            {
                "severity": str(severity),
                "pairs": len(rows),
                "compared": len(chosen),
                "restored": int(restored.sum()),
                "all": _means(values),
                "of_restored": _means(values[restored]) if restored.any() else None,
            }
        )
    return lines


def _compared(
    row: Any, before: CellImages, after: CellImages, places: list[dict[str, int]]
) -> tuple[float, float, float, float]:
    """Return PSNR and SSIM of a degraded crop, and of what the models see, against the clean form."""
    clean = before.crop(places[0][str(row.original)])
    truth, inside = aligned(clean, int(row.window_px), row.down, row.right)
    found = before.crop(places[0][str(row.image_id)]), after.crop(places[1][str(row.image_id)])
    return *likeness(found[0], truth, inside), *likeness(found[1], truth, inside)


def _means(values: np.ndarray) -> dict[str, str]:
    """Return the means as texts for a table."""
    psnr_before, ssim_before, psnr_after, ssim_after = values.mean(axis=0)
    return {
        "psnr": f"{psnr_before:.2f} → {psnr_after:.2f}",
        "ssim": f"{ssim_before:.3f} → {ssim_after:.3f}",
    }
