"""What the report shows of restoration: how many crops, and the worst that were kept and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from buffycoat.images import CellImages, Pixels
from buffycoat.report.pictures import data_address, outlined, sized
from buffycoat.report.sections import Cells
from buffycoat.report.settings import WriteReport


def moved(cells: pd.DataFrame) -> pd.Series:
    """Return by how much the areas moved: the larger of the two changes, either way, as a share."""
    return cells[["nucleus_change", "cell_change"]].abs().max(axis=1)


def worst_kept(cells: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return the restored cells whose areas moved most."""
    kept = cells[cells["restored"]]
    return kept.loc[moved(kept).sort_values(ascending=False, kind="stable").index].head(most)


def worst_refused(cells: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return the refused cells, by turns those whose areas moved most and those whose noise rose most."""
    refused = cells[cells["noise_after"].notna() & ~cells["restored"]]
    gain = refused["noise_after"] - refused["noise_before"]
    orders = [values.sort_values(ascending=False, kind="stable").index for values in (moved(refused), gain)]
    turns = [place for pair in zip(*orders, strict=True) for place in pair]
    return refused.loc[list(dict.fromkeys(turns))].head(most)


def counts(cells: pd.DataFrame) -> dict[str, Any]:
    """Return how many restorations were tried, kept and refused, and the first reason of the refusals."""
    tried = cells[cells["noise_after"].notna()]
    refused = tried[~tried["restored"]]
    why = refused["reason"].str.extract(r"^refused: (noise score|nucleus area|cell area)")[0].fillna("other")
    return {
        "tried": len(tried),
        "kept": int(tried["restored"].sum()),
        "refused": len(refused),
        "why": {str(name): int(count) for name, count in why.value_counts().items()},
    }


def _pair(image_id: str, reason: str, before: Pixels, after: Pixels, mask: Pixels, side: int) -> dict[str, str]:
    return {
        "image_id": image_id,
        "reason": reason,
        "before": data_address(sized(before, side)),
        "after": data_address(outlined(after, mask, side)),
    }


def content(
    cells: pd.DataFrame, pictures: Cells, refused: pd.DataFrame, refused_table: Path, settings: WriteReport
) -> dict[str, Any]:
    """Return counts and before-and-after pairs for the template."""
    side = settings.thumbnail_px
    kept_pairs = []
    for row in worst_kept(cells, settings.restorations).itertuples():
        k, final = pictures.place[str(row.image_id)], pictures.final[str(row.image_id)]
        before, after, mask = pictures.crops.crop(k), pictures.cells.crop(final), pictures.crops.mask(k)
        kept_pairs.append(_pair(str(row.image_id), str(row.reason), before, after, mask, side))
    restored = CellImages(refused, refused_table)
    places = {image_id: k for k, image_id in enumerate(restored.ids)}
    refused_pairs = []
    for row in worst_refused(cells, settings.restorations).itertuples():
        k, there = pictures.place[str(row.image_id)], places[str(row.image_id)]
        before, after, mask = pictures.crops.crop(k), restored.crop(there), pictures.crops.mask(k)
        refused_pairs.append(_pair(str(row.image_id), str(row.reason), before, after, mask, side))
    return {
        "restoration_counts": counts(cells),
        "kept_restorations": kept_pairs,
        "refused_restorations": refused_pairs,
    }
