"""A small data set of branch A's stage, and its steps with paths filled in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from buffycoat.classify.predict_fold import predict_fold
from buffycoat.classify.settings import PredictFold, TrainFold
from buffycoat.classify.train_fold import train_fold
from buffycoat.core.settings import Runtime
from buffycoat.data.images import CYTOPLASM, ShardWriter
from buffycoat.data.tables.index import CLASSES, FOLDS
from buffycoat.data.tables.restore import CELLS
from tests.index_tables import write_index

SWIN = {"img_size": 32, "window_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4]}
TINY = TrainFold(
    backbone="swin_tiny_patch4_window7_224", backbone_options=SWIN, size_px=32, epochs=3, batch=8, background="keep",
    learning_rate=3e-3, warm_up=0.0,
)  # fmt: skip


def make_dataset(folder: Path) -> Path:
    """30 training cells of three classes told apart by colour (one class has a single image), 4 test, 1 bad."""
    rng = np.random.default_rng(0)
    labels = ["BA"] * 14 + ["LY"] * 15 + ["PC"]
    colours = {"BA": (200, 60, 60), "LY": (60, 60, 200), "PC": (60, 200, 60)}
    rows = []
    with ShardWriter(folder / "shards", 32) as writer:
        for k in range(34):
            colour = colours[labels[k]] if k < 30 else colours[("BA", "LY")[k % 2]]
            crop = np.clip(np.array(colour) + rng.normal(0, 25, (32, 32, 3)), 0, 255).astype(np.uint8)
            shard, row, crc = writer.add(f"{k}", crop, np.full((32, 32), CYTOPLASM, np.uint8))
            rows.append({"image_id": f"{k}", "shard": f"shards/{shard}", "shard_row": row, "crc32": crc})
    cells = pd.DataFrame(rows).assign(
        restored=False, noise_before=1.0, noise_after=np.nan, nucleus_change=np.nan, cell_change=np.nan, reason="clean"
    )
    CELLS.write(cells, folder / "cells.parquet")
    images = pd.DataFrame({"image_id": [*cells["image_id"], "bad"], "label": [*labels, None, None, None, None, None]})
    images["role"] = ["train"] * 30 + ["test"] * 4 + ["train"]
    images["status"] = ["ok"] * 34 + ["missing"]
    write_index(images, folder)
    folds = pd.DataFrame({"image_id": [str(k) for k in range(30)], "fold": [k % 2 for k in range(30)]})
    FOLDS.write(folds, folder / "folds.parquet")
    classes = pd.DataFrame({"code": ["BA", "LY", "PC"], "name": ["a", "b", "c"], "position": [0, 1, 2]})
    CLASSES.write(classes.assign(images=1, groups=None), folder / "classes.parquet")
    return folder


def inputs(folder: Path, *others: str) -> dict[str, Path]:
    return {name: folder / f"{name}.parquet" for name in ("images", "classes", "folds", "cells", *others)}


def train(
    folder: Path, name: str, fold: int = 0, settings: TrainFold = TINY, recipe: str = "focal",
    body: list[Path] | None = None, runtime: Runtime = Runtime(),
) -> Path:  # fmt: skip
    out = folder / name / f"fold_{fold}"
    train_fold(
        **inputs(folder, "labels"), fold=fold, recipe=recipe, body=body, model=out / "model.safetensors",
        history=out / "history.parquet", seed=1, settings=settings, runtime=runtime,
    )  # fmt: skip
    return out


def predict(folder: Path, out: Path, fold: int, views: int = 8, recipe: str = "focal") -> Path:
    predict_fold(
        **inputs(folder), model=out / "model.safetensors", fold=fold, recipe=recipe, logits=out / "logits.parquet",
        settings=PredictFold(views=views),
    )  # fmt: skip
    return out / "logits.parquet"
