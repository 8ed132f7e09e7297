from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from buffycoat.core.errors import InputError
from buffycoat.core.settings import Statistics
from buffycoat.data.tables.classify import DEGRADED
from buffycoat.data.tables.index import CLASSES
from buffycoat.data.tables.report import ROBUSTNESS
from buffycoat.report.score_robustness import score_robustness
from tests.index_tables import write_index

CODES = ["BA", "<b>LY", "PC"]
IDS = [f"{k}" for k in range(60)]
TRUE = np.array([CODES[k % 3] for k in range(60)], object)


def wrong(share: float, seed: int = 0) -> np.ndarray:
    """Return labels of which about `share` are wrong."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(60) < share, np.roll(TRUE, 1), TRUE)


def write(folder: Path, ways: dict[tuple[str, float], np.ndarray]) -> list[Path]:
    """Write two folds' tables of labels: images of even number are fold 0's."""
    images = pd.DataFrame({"image_id": IDS, "role": "train", "status": "ok", "label": TRUE})
    images["group"] = [f"p{k // 6}" for k in range(60)]
    write_index(images, folder)
    classes = pd.DataFrame({"code": CODES, "name": CODES, "position": range(3)}).assign(images=20, groups=None)
    CLASSES.write(classes, folder / "classes.parquet")
    paths = []
    for fold in (0, 1):
        tables = [
            pd.DataFrame({"image_id": IDS, "fold": fold, "kind": kind, "severity": severity, "label": labels})[fold::2]
            for (kind, severity), labels in ways.items()
        ]
        paths.append(folder / f"fold_{fold}.parquet")
        DEGRADED.write(pd.concat(tables), paths[-1])
    return paths


def score(folder: Path, paths: list[Path]) -> pd.DataFrame:
    score_robustness(
        labels=folder / "labels.parquet", classes=folder / "classes.parquet", degraded=paths,
        robustness=folder / "robustness.parquet", page=folder / "robustness.html", seed=1, data="cells",
        statistics=Statistics(resamples=200),
    )  # fmt: skip
    return ROBUSTNESS.read(folder / "robustness.parquet")


WAYS = {("none", 0.0): wrong(0.1), ("blur", 1.0): wrong(0.1), ("blur", 4.0): wrong(0.6, 1)}


def test_scores_are_those_of_scikit_learn_and_differences_paired(tmp_path: Path) -> None:
    table = score(tmp_path, write(tmp_path, WAYS))
    macro = table[table["metric"] == "macro_f1"].set_index(["kind", "severity"])
    for way, labels in WAYS.items():
        assert macro.loc[way, "value"] == pytest.approx(f1_score(TRUE, labels, average="macro"))
        assert macro.loc[way, "low"] <= macro.loc[way, "value"] <= macro.loc[way, "high"]
    # The same labels, the same resamples: no difference at all.
    same = macro.loc[("blur", 1.0), ["difference", "difference_low", "difference_high"]]
    assert (same == 0).all()
    assert macro.loc[("blur", 4.0), "difference_high"] < 0
    assert (table["images"] == 60).all() and set(table["metric"]) == {"accuracy", "balanced_accuracy", "macro_f1"}


def test_the_page_is_self_contained_and_marks_what_hurts(tmp_path: Path) -> None:
    score(tmp_path, write(tmp_path, WAYS))
    page = (tmp_path / "robustness.html").read_text(encoding="utf-8")
    assert "<b>LY" not in page and "<script" not in page and page.count("data:image/png;base64,") == 1
    assert page.count('class="badly"') == 1 and "60 training images" in page and "resamples of patients" in page
    assert "as they are" in page


def test_a_fold_without_a_way_is_refused(tmp_path: Path) -> None:
    paths = write(tmp_path, WAYS)
    table = DEGRADED.read(paths[1])
    DEGRADED.write(table[table["severity"] < 4], paths[1])
    with pytest.raises(InputError, match="blur at severity 4"):
        score(tmp_path, paths)
    assert not (tmp_path / "robustness.parquet").exists()


def test_without_the_crops_as_they_are_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    paths = write(tmp_path, {("blur", 1.0): TRUE})
    with pytest.raises(InputError, match="as they are"):
        score(tmp_path, paths)


def test_no_clean_crop_is_told(tmp_path: Path) -> None:
    paths = write(tmp_path, WAYS)
    for path in paths:
        DEGRADED.write(DEGRADED.read(path)[:0], path)
    with pytest.raises(InputError, match="no training image has a clean crop"):
        score(tmp_path, paths)
