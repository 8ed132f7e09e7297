from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from buffycoat.core.errors import InputError
from buffycoat.data.tables.classify import PROBABILITIES
from buffycoat.data.tables.embed import BASELINES, EMBEDDINGS, PROMPTS
from buffycoat.data.tables.index import LABELS
from buffycoat.embed import score_baselines as module
from buffycoat.embed.score_baselines import nearest_prompts, score_baselines, scores, votes
from tests.embed.conftest import write_dataset

NO_PROMPTS = pd.DataFrame({"code": [], "prompt": [], "embedding": []}, dtype=object)


def judged(folder: Path, prompts: pd.DataFrame = NO_PROMPTS) -> tuple[pd.DataFrame, pd.DataFrame]:
    PROMPTS.write(prompts, folder / "prompts.parquet")
    names = ("images", "labels", "classes", "folds", "embeddings", "prompts")
    inputs = {key: folder / f"{key}.parquet" for key in names}
    out = {"knn": folder / "knn.parquet", "baselines": folder / "b.parquet"}
    score_baselines(**inputs, **out)
    return PROBABILITIES.read(out["knn"]), BASELINES.read(out["baselines"])


def value(table: pd.DataFrame, baseline: str, metric: str, code: str = "all") -> float:
    row = table[(table["baseline"] == baseline) & (table["metric"] == metric) & (table["class"] == code)]
    return float(row["value"].item())


def on_circle(degrees: list[float]) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_votes_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    known, labels = on_circle([0, 10, 20, 90]), np.array([0, 1, 1, 1])
    asked = on_circle([2])
    near, far = (1 - np.cos(np.radians(d)) for d in (2, 8))

    def shares(neighbours: int) -> list[float]:
        monkeypatch.setattr(module, "NEIGHBOURS", neighbours)
        return [float(share) for share in votes(known, labels, asked, 2)[0]]

    total = 1 / near + 1 / far / 3
    assert shares(2) == pytest.approx([1 / near / total, 1 / far / 3 / total])
    assert shares(99) == shares(4), "no more voters than there are"


def test_a_cell_never_votes_for_itself_nor_do_cells_of_its_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NEIGHBOURS", 2)
    # Thirty triples of copies: the BA in fold 0, the LY in folds 1 and 2.
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(0, 1, (30, 16)), 3, axis=0)
    labels: list[str | None] = [("BA", "LY", "LY")[k % 3] for k in range(90)]
    folder = write_dataset(tmp_path, vectors, labels, ["BA", "LY"])
    table, baselines = judged(folder)
    # Nearest of the other folds: two LY to a BA, one of each to a LY.
    assert np.allclose(table.loc[0::3, "BA"], 0) and np.allclose(table.loc[1::3, "BA"], 0.5)
    assert value(baselines, "knn", "recall", "BA") == 0


def test_labels_that_mean_nothing_score_as_chance(noise: Path) -> None:
    _, baselines = judged(noise)
    assert value(baselines, "knn", "accuracy") < 0.7


def test_rows_without_a_label_get_the_mean_over_folds(dataset: Path) -> None:
    table, baselines = judged(dataset)
    assert table["source"].tolist() == ["out_of_fold"] * 36 + ["fold_mean"] * 4
    assert np.allclose(table[["BA", "LY", "PC"]].sum(axis=1), 1)
    assert (table["BA"].iloc[36:] > 0.5).all()
    assert value(baselines, "knn", "accuracy") > 0.85
    vectors = np.stack(EMBEDDINGS.read(dataset / "embeddings.parquet")["embedding"].to_list()).astype(np.float64)
    numbers = LABELS.read(dataset / "labels.parquet")["label"].map({"BA": 0, "LY": 1, "PC": 2}).to_numpy()[:36]
    per_fold = []
    for fold in range(3):
        others = np.flatnonzero(np.arange(36) % 3 != fold)
        per_fold.append(votes(vectors[others], numbers[others].astype(int), vectors[36:], 3))
    assert np.allclose(table[["BA", "LY", "PC"]].iloc[36:], np.mean(per_fold, axis=0))


def test_a_class_of_one_cell_has_no_neighbour_to_find_it(dataset: Path) -> None:
    table, baselines = judged(dataset)
    assert table.loc[35, "PC"] == 0 and value(baselines, "knn", "f1", "PC") == 0
    assert baselines.loc[baselines["class"] == "PC", "support"].eq(1).all()


def test_scores_by_hand() -> None:
    table = scores("knn", np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), ["A", "B", "C"])
    assert value(table, "knn", "f1", "A") == pytest.approx(2 / 3)
    assert value(table, "knn", "precision", "B") == pytest.approx(2 / 3)
    assert value(table, "knn", "f1", "C") == 0
    assert value(table, "knn", "macro_f1") == pytest.approx((2 / 3 + 4 / 5 + 0) / 3), "an absent class counts 0"
    assert value(table, "knn", "balanced_accuracy") == pytest.approx(3 / 4), "over the classes that are there"
    assert value(table, "knn", "accuracy") == pytest.approx(3 / 4)


def test_class_names_are_scored_where_there_are_prompts(dataset: Path) -> None:
    _, without = judged(dataset)
    assert set(without["baseline"]) == {"knn"}
    vectors = [np.eye(4, dtype=np.float32)[k] for k in (2, 1, 0)]
    told = pd.DataFrame({"code": ["PC", "LY", "BA"], "prompt": "x", "embedding": vectors})
    _, table = judged(dataset, prompts=told)
    assert value(table, "zero_shot", "accuracy") > 0.9
    swapped = told.assign(code=["PC", "BA", "LY"])
    _, table = judged(dataset, prompts=swapped)
    assert value(table, "zero_shot", "accuracy") < 0.1


def test_the_nearest_prompt_is_by_class_code_not_by_row() -> None:
    told = pd.DataFrame({"code": ["B", "A"], "prompt": "x", "embedding": [[0.0, 1.0], [1.0, 0.0]]})
    assert nearest_prompts(np.array([[0.9, 0.1], [0.2, 0.8]]), told, ["A", "B"]).tolist() == [0, 1]


def test_a_class_without_a_prompt_is_named() -> None:
    prompts = pd.DataFrame({"code": ["BA"], "prompt": "x", "embedding": [np.ones(2)]})
    with pytest.raises(InputError, match="no prompt for LY; run once with --forcerun embed_cells"):
        nearest_prompts(np.ones((1, 2)), prompts, ["BA", "LY"])
