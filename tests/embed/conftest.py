from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from buffycoat.data.tables.embed import EMBEDDINGS
from buffycoat.data.tables.index import CLASSES, FOLDS
from tests.index_tables import write_index


def write_dataset(
    folder: Path, vectors: np.ndarray, labels: list[str | None], codes: list[str], folds: int = 3
) -> Path:
    """Write the tables that heads and baselines read; without a label: test images; the others in folds by turns."""
    ids = [f"{k}" for k in range(len(labels))]
    roles = ["test" if label is None else "train" for label in labels]
    write_index(pd.DataFrame({"image_id": ids, "label": labels, "role": roles}), folder)
    learned = [k for k, label in enumerate(labels) if label is not None]
    divided = pd.DataFrame({"image_id": [ids[k] for k in learned], "fold": [k % folds for k in learned]})
    FOLDS.write(divided, folder / "folds.parquet")
    classes = pd.DataFrame({"code": codes, "name": codes, "position": range(len(codes))})
    CLASSES.write(classes.assign(images=1, groups=None), folder / "classes.parquet")
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    EMBEDDINGS.write(pd.DataFrame({"image_id": ids, "embedding": list(unit)}), folder / "embeddings.parquet")
    return folder


@pytest.fixture()
def dataset(tmp_path: Path) -> Path:
    """40 embeddings of three classes, 36 of them training rows in three folds; the one PC stands in fold 2."""
    rng = np.random.default_rng(0)
    labels: list[str | None] = [*["BA"] * 18, *["LY"] * 17, "PC", *[None] * 4]
    centres = {"BA": [1, 0, 0, 0], "LY": [0, 1, 0, 0], "PC": [0, 0, 1, 0], None: [1, 0, 0, 0]}
    vectors = np.array([centres[label] for label in labels]) + rng.normal(0, 0.2, (40, 4))
    return write_dataset(tmp_path, vectors, labels, ["BA", "LY", "PC"])


@pytest.fixture()
def noise(tmp_path: Path) -> Path:
    """90 training rows in three folds that differ in everything but have labels that mean nothing."""
    rng = np.random.default_rng(3)
    labels: list[str | None] = [("BA", "LY")[k] for k in rng.integers(0, 2, 90)]
    return write_dataset(tmp_path, rng.normal(0, 1, (90, 64)), labels, ["BA", "LY"])
