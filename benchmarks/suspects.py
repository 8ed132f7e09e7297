"""How well suspects are found: branch A's mistakes, classes left out, wrong labels planted in memory.

    python -m benchmarks.suspects --results results --restoration median --recipe oversampling

Needs the results of a finished run whose test labels are known. Branch B's heads are trained again on the planted
labels; branch A is not, so that its share in finding them is flattered: the rows `branch_b` say by how much such
training hurts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.machine import machine
from buffycoat.core.files import write_json
from buffycoat.core.progress import start_logging
from buffycoat.data.labels import class_numbers
from buffycoat.data.random import stream
from buffycoat.data.tables.classify import PROBABILITIES
from buffycoat.data.tables.embed import EMBEDDINGS
from buffycoat.data.tables.index import CLASSES, FOLDS, LABELS, TEST_LABELS, class_codes
from buffycoat.data.tables.review import SUSPECTS
from buffycoat.embed.settings import TrainHead
from buffycoat.embed.train_head import fit_head, head_probabilities
from buffycoat.nets.weights import read_weights
from buffycoat.review.find_suspects import label_doubts
from buffycoat.review.outliers import fit_classes

COMPONENTS = (16, 64, 256)
SHARE = 0.03
KINDS = ("label", "disagreement", "energy", "distance")


def rounded(value: Any) -> float:
    """Return a number to three digits."""
    return round(float(value), 3)


def share_of(wrong: np.ndarray) -> float | None:
    """Return the share of True values, None where there is no value."""
    return rounded(wrong.mean()) if len(wrong) else None


def mistakes(table: pd.DataFrame, true: pd.Series) -> dict[str, Any]:
    """Return how the scores of test images tell branch A's mistakes, and how many of the suspect ones are such."""
    rows = table[table["image_id"].isin(true.index)].set_index("image_id")
    wrong = (rows["branch_a_label"] != true.loc[rows.index]).to_numpy(bool)
    scores = ("energy", "feature_distance", "disagreement")
    found: dict[str, Any] = {"images": len(rows), "mistakes": int(wrong.sum())}
    found["roc_auc"] = {name: rounded(roc_auc_score(wrong, rows[name])) for name in scores}
    for kind in KINDS[1:]:
        raised = np.array([kind in names.split(",") for names in rows["kinds"]], bool)
        shares = {"suspect": share_of(wrong[raised]), "others": share_of(wrong[~raised])}
        found[kind] = {"images": int(raised.sum()), "share_of_mistakes": shares}
    return found


def left_out(vectors: np.ndarray, numbers: np.ndarray, tested: np.ndarray, true: np.ndarray, codes: list[str]) -> Any:
    """Return, by components, the ROC area of the distance for test images of each class that its fit did not hold."""
    found: dict[str, dict[str, float]] = {}
    for components in COMPONENTS:
        of_class = found.setdefault(str(components), {})
        for number, code in enumerate(codes):
            model = fit_classes(vectors[numbers != number], numbers[numbers != number], components)
            if model is not None:
                of_class[code] = rounded(roc_auc_score(true == number, model.distance(tested)))
    return found


def retrained(
    vectors: np.ndarray, labels: np.ndarray, folds: np.ndarray, codes: list[str], settings: TrainHead
) -> np.ndarray:
    """Return branch B's out-of-fold probabilities of heads trained on `labels`."""
    found = np.zeros((len(labels), len(codes)))
    rows = torch.from_numpy(vectors)
    for fold in np.unique(folds):
        others = np.flatnonzero(folds != fold)
        tensors, _ = fit_head(rows[others], labels[others], codes, int(fold), 1, settings)
        own = np.flatnonzero(folds == fold)
        found[own] = head_probabilities(tensors, rows[own], len(codes), settings)
    return found


def found_errors(chances: np.ndarray, labels: np.ndarray, folds: np.ndarray, planted: np.ndarray) -> dict[str, Any]:
    """Return how well doubts and the rule find the planted labels."""
    doubts = label_doubts(chances, labels, folds)
    order = np.argsort(-np.nan_to_num(doubts.doubt), kind="stable")
    own = chances[np.arange(len(labels)), labels]
    many = int(planted.sum())
    return {
        "average_precision": rounded(average_precision_score(planted, np.nan_to_num(doubts.doubt))),
        "average_precision_of_t_minus_p": rounded(
            average_precision_score(planted, np.nan_to_num(doubts.usual[labels] - own))
        ),
        "recall_at_planted": rounded(planted[order[:many]].mean()),
        "suspect": int(doubts.contradicted.sum()),
        "suspect_and_planted": int((doubts.contradicted & planted).sum()),
    }


def plant(numbers: np.ndarray, near: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return labels of which SHARE are wrong, and which: of any other class, or of the one most like their own."""
    rng = stream(1, "benchmark", "suspects", kind)
    planted = np.zeros(len(numbers), bool)
    planted[rng.choice(len(numbers), round(SHARE * len(numbers)), replace=False)] = True
    others = (numbers + rng.integers(1, len(near), len(numbers))) % len(near)
    return np.where(planted, others if kind == "any_class" else near[numbers], numbers), planted


def main(
    results: Annotated[Path, typer.Option()] = Path("results"),
    restoration: Annotated[str, typer.Option(help="the run's own, as in the preset laptop")] = "median",
    recipe: Annotated[str, typer.Option(help="the run's main one")] = "oversampling",
    output: Annotated[Path, typer.Option()] = Path(__file__).parent / "suspects.json",
) -> None:
    """Measure and write everything."""
    start_logging()
    codes = class_codes(CLASSES.read(results / "1_index" / "classes.parquet"))
    number_of = class_numbers(codes)
    folds = FOLDS.read(results / "1_index" / "folds.parquet").set_index("image_id")["fold"].sort_index()
    label = LABELS.read(results / "1_index" / "labels.parquet").set_index("image_id")["label"]
    numbers: np.ndarray = label.loc[folds.index].map(number_of).to_numpy(np.int64)
    true = TEST_LABELS.read(results / "1_index" / "test_labels.parquet").set_index("image_id")["label"]
    stored = EMBEDDINGS.read(results / "6_embed" / "embeddings.parquet").set_index("image_id")["embedding"]
    vectors, tested = (np.stack(stored.loc[ids].to_list()).astype(np.float32) for ids in (folds.index, true.index))
    folders = (results / "5_classify" / restoration / recipe, results / "6_embed")
    tables = [folder / "probabilities.parquet" for folder in folders]
    a, b = (PROBABILITIES.read(path).set_index("image_id").loc[folds.index, codes].to_numpy() for path in tables)
    settings = TrainHead.model_validate(read_weights(results / "6_embed" / "heads.safetensors")[1]["settings"])
    confused = np.zeros((len(codes), len(codes)))
    np.add.at(confused, numbers, (a + b) / 2)
    np.fill_diagonal(confused, 0)
    near: np.ndarray = confused.argmax(axis=1)
    held: np.ndarray = folds.to_numpy(np.int64)
    errors: dict[str, Any] = {}
    for kind in ("any_class", "nearest_class"):
        labels, planted = plant(numbers, near, kind)
        again = retrained(vectors, labels, held, codes, settings)
        judges = {"both": (a + again) / 2, "branch_a": a, "branch_b": again}
        judges |= {"both_trained_on_right_labels": (a + b) / 2, "branch_b_trained_on_right_labels": b}
        errors[kind] = {"planted": int(planted.sum())}
        errors[kind] |= {name: found_errors(chances, labels, held, planted) for name, chances in judges.items()}
    found = {
        "machine": machine(),
        "mistakes_of_branch_a": mistakes(SUSPECTS.read(results / "9_review" / "suspects.parquet"), true),
        "class_left_out": left_out(vectors, numbers, tested, true.map(number_of).to_numpy(np.int64), codes),
        "nothing_planted_suspect": int(label_doubts((a + b) / 2, numbers, held).contradicted.sum()),
        "planted": errors,
    }
    write_json(found, output)


if __name__ == "__main__":
    typer.run(main)
