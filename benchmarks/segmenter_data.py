"""Which expert-drawn masks the shipped segmenter learns from and which it is only judged on.

    python -m benchmarks.segmenter_data --folder local/segmenter

Of BCISC (per cell type) and of BCCD the first half of the images, in the order of their names, is learnt from; the
second half is held out. The other set of masks (Zheng et al. 2018) is never learnt from.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

DATA = Path(os.environ.get("BUFFYCOAT_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
LEARNT_FROM = ("bcisc", "bccd")


def rows_of(name: str) -> pd.DataFrame:
    """Return the rows of one set, in the order of the image names, with `held_out` beside them."""
    frame = pd.read_csv(DATA / "masks" / "masks.csv", dtype=str, keep_default_na=False)
    frame = frame[frame["set"] == name].sort_values("image", ignore_index=True)
    if name not in LEARNT_FROM:
        return frame.assign(held_out=True)
    block = frame["label"] if name == "bcisc" else pd.Series("", index=frame.index)
    place = frame.groupby(block).cumcount()
    return frame.assign(held_out=place >= block.map(block.value_counts()) / 2)


def write_learnt(name: str, folder: Path) -> int:
    """Copy the images and masks that are learnt from below `folder` and write their CSV; return their number."""
    rows = rows_of(name)
    rows = rows[~rows["held_out"]]
    for path in [*rows["image"], *rows["mask"]]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(DATA / "masks" / path, folder / path)
    rows[["image", "mask", "nucleus_marked"]].to_csv(folder / f"{name}.csv", index=False)
    return len(rows)


def main(folder: Annotated[Path, typer.Option(help="where the copies and their CSVs go")]) -> None:
    """Write the CSVs that `train_segmenter` takes."""
    for name in LEARNT_FROM:
        print(f"{name}: {write_learnt(name, folder)} images to learn from")


if __name__ == "__main__":
    typer.run(main)
