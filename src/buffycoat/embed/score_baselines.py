"""Step `score_baselines`: what the embeddings are worth without training, out of fold."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.core.steps import run
from buffycoat.data.labels import embedded_rows
from buffycoat.data.tables.classify import PROBABILITIES
from buffycoat.data.tables.embed import BASELINES, EMBEDDINGS, PROMPTS
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, LABELS, class_codes

log = logging.getLogger("buffycoat")

Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
NEIGHBOURS = 10
"""Nearest neighbours that vote, by cosine similarity; ours."""
NEAREST = 1e-4
"""Smallest cosine distance of a vote: a copy of the cell outvotes all others, but by a finite weight."""


def votes(known: Vectors, labels: Numbers, asked: Vectors, classes: int) -> Floats:
    """Return the share of the votes (m, K) that each class has among the neighbours of `asked` (m, D).

    `known` (n, D) and `labels` (n,) are those that vote; all vectors are of length one. A vote weighs 1 / (cosine
    distance x cells of the voter's class), so that a rare class is not outvoted by being rare (benchmarks/embed.json).
    """
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(known)), metric="cosine", algorithm="brute")
    nearness, places = index.fit(known).kneighbors(asked)
    distances = nearness.astype(np.float64)
    voters = labels[places]
    weight = 1 / np.maximum(distances, NEAREST) / np.bincount(labels, minlength=classes)[voters]
    counted = np.zeros((len(asked), classes))
    np.add.at(counted, (np.arange(len(asked))[:, None], voters), weight)
    shares: Floats = counted / counted.sum(axis=1, keepdims=True)
    return shares


def knn_probabilities(rows: pd.DataFrame, codes: list[str]) -> pd.DataFrame:
    """Return the table of probabilities by neighbours: a labelled row asks those of other folds alone.

    `rows` are those of `embedded_rows`. The rows without a label get the mean over the folds.
    """
    # As they are stored: every vector is compared with every other, and 64 bits would take twice as long.
    vectors = np.stack(rows["embedding"].to_list()).astype(np.float32)
    learned, fold = rows["fold"].notna().to_numpy(), rows["fold"].to_numpy(np.float64)
    numbers = rows["number"].fillna(-1).to_numpy(np.int64)
    values, folds = np.zeros((len(rows), len(codes))), np.unique(fold[learned])
    for one in folds:
        voters, own = learned & (fold != one), fold == one
        asked = own | ~learned
        shares = votes(vectors[voters], numbers[voters], vectors[asked], len(codes))
        # An own row is asked about once, one without a label by each fold.
        values[asked] += shares * np.where(learned[asked], 1.0, 1 / len(folds))[:, None]
    table = pd.DataFrame(values, columns=codes)
    table.insert(0, "image_id", rows["image_id"].to_numpy(object))
    table.insert(1, "source", np.where(learned, "out_of_fold", "fold_mean"))
    return table


def scores(name: str, true: Numbers, predicted: Numbers, codes: list[str]) -> pd.DataFrame:
    """Return the rows of the table of baselines for one of them, from class numbers (n,)."""
    from sklearn.metrics import precision_recall_fscore_support

    each = precision_recall_fscore_support(true, predicted, labels=range(len(codes)), zero_division=0)
    per_class = dict(zip(("precision", "recall", "f1"), each[:3], strict=True))
    support = each[3]
    lines = [
        (name, code, metric, float(values[k]), int(support[k]))
        for metric, values in per_class.items()
        for k, code in enumerate(codes)
    ]
    overall = {
        "macro_f1": per_class["f1"].mean(),
        "balanced_accuracy": per_class["recall"][support > 0].mean(),
        "accuracy": (true == predicted).mean(),
    }
    lines += [(name, "all", metric, float(value), len(true)) for metric, value in overall.items()]
    log.info("%s: macro-F1 %.4f, accuracy %.4f on %d labelled cells", name, lines[-3][3], lines[-1][3], len(true))
    return pd.DataFrame(lines, columns=["baseline", "class", "metric", "value", "support"])


def nearest_prompts(vectors: Floats, prompts: pd.DataFrame, codes: list[str]) -> Numbers:
    """Return, for vectors (n, D), the number of the class whose prompt is most similar, (n,).

    Raises InputError where a class has no prompt: corrected labels may hold a new class, and embed nothing again.
    """
    if missing := sorted(set(codes) - set(prompts["code"])):
        raise InputError(f"prompts.parquet: no prompt for {', '.join(missing)}; run once with --forcerun embed_cells")
    texts = np.stack(prompts.set_index("code").loc[codes, "embedding"].to_list()).astype(np.float64)
    return np.asarray((vectors @ texts.T).argmax(axis=1), np.int64)


def score_baselines(
    *, images: Path, labels: Path, classes: Path, folds: Path, embeddings: Path, prompts: Path, knn: Path,
    baselines: Path,
) -> None:  # fmt: skip
    """Judge the embeddings by neighbours and, where there are prompts, by class names; write both tables."""
    codes = class_codes(CLASSES.read(classes))
    rows = embedded_rows(
        IMAGES.read(images), LABELS.read(labels), FOLDS.read(folds), EMBEDDINGS.read(embeddings), codes
    )
    neighbours = knn_probabilities(rows, codes)
    labelled = rows["fold"].notna().to_numpy()
    true = rows.loc[labelled, "number"].to_numpy(np.int64)
    parts = [scores("knn", true, neighbours.loc[labelled, codes].to_numpy().argmax(axis=1), codes)]
    told = PROMPTS.read(prompts)
    if not told.empty:
        vectors = np.stack(rows.loc[labelled, "embedding"].to_list()).astype(np.float64)
        parts.append(scores("zero_shot", true, nearest_prompts(vectors, told, codes), codes))
    else:
        log.info("zero_shot: not scored, the encoder has no text")
    PROBABILITIES.write(neighbours, knn)
    BASELINES.write(pd.concat(parts, ignore_index=True), baselines)


if __name__ == "__main__":
    run(score_baselines)
