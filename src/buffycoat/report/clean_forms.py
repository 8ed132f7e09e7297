"""How like their clean forms degraded crops are, before and after restoration: the data give the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from buffycoat.data.clean_pairs import aligned, likeness, paired_crops
from buffycoat.report.sections import Cells

MOST = 300
"""Pairs compared per severity, spread evenly over the data: enough for a steady mean, few enough to cost seconds."""


def against_clean_forms(
    images: pd.DataFrame, crops: pd.DataFrame, cells: pd.DataFrame, pictures: Cells
) -> list[dict[str, Any]]:
    """Return, by severity, PSNR and SSIM of crops and of what the models see against the clean forms of both.

    Parameters: the rows of the tables IMAGES, CROPS and CELLS, and the pictures of the last two. Of what was restored
    the figures are given by themselves, before and after; None where nothing was. Empty where the data give no pairs.
    """
    pairs = paired_crops(images, crops).merge(cells[["image_id", "restored"]], on="image_id")
    pairs["severity"] = pairs["severity"].fillna("unknown")
    lines = []
    for severity, rows in pairs.groupby("severity", sort=True):
        chosen = rows.iloc[:: max(1, -(-len(rows) // MOST))]
        values = np.array([_compared(row, pictures) for row in chosen.itertuples()])
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


def _compared(row: Any, pictures: Cells) -> tuple[float, float, float, float]:
    """Return PSNR and SSIM of a degraded crop, and of what the models see, against the clean form."""
    clean = pictures.crops.crop(pictures.place[str(row.original)])
    truth, inside = aligned(clean, int(row.window_px), row.down, row.right)
    before = likeness(pictures.crops.crop(pictures.place[str(row.image_id)]), truth, inside)
    return *before, *likeness(pictures.cells.crop(pictures.final[str(row.image_id)]), truth, inside)


def _means(values: np.ndarray) -> dict[str, str]:
    """Return the means as texts for a table."""
    psnr_before, ssim_before, psnr_after, ssim_after = values.mean(axis=0)
    return {
        "psnr": f"{psnr_before:.2f} → {psnr_after:.2f}",
        "ssim": f"{ssim_before:.3f} → {ssim_after:.3f}",
    }
