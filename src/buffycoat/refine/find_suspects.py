"""Step `find_suspects`: images that a person should look at, and why; no label is changed here."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from buffycoat.errors import InputError
from buffycoat.refine.doubts import divergence, label_doubts
from buffycoat.refine.evidence import read_probabilities
from buffycoat.refine.familiar import Familiar, write_familiar
from buffycoat.refine.outliers import ClassModel, cross_fitted_distance, energy_of, models_without, share_below
from buffycoat.refine.settings import FindSuspects
from buffycoat.refine.suspicions import KINDS, with_reasons
from buffycoat.steps import run
from buffycoat.tables.classes import CLASSES, class_codes
from buffycoat.tables.embeddings import EMBEDDINGS
from buffycoat.tables.folds import FOLDS
from buffycoat.tables.images import IMAGES, decodable, trainable
from buffycoat.tables.logits import LOGITS
from buffycoat.tables.schema import require_same_keys
from buffycoat.tables.suspects import SUSPECTS

log = logging.getLogger("buffycoat")


def read_rows(images: Path, folds: Path, codes: list[str]) -> pd.DataFrame:
    """Return the decodable images with role, given_label, fold and number of the class (-1 where not learned from).

    In order of name, so that no sum hangs on the order of rows. Raises InputError where a fold is missing.
    """
    table = IMAGES.read(images)
    learned = trainable(table).set_index("image_id")["label"]
    fold_of = FOLDS.read(folds).set_index("image_id")["fold"]
    require_same_keys(fold_of.index.to_series(), learned.index.to_series(), str(folds))
    rows = decodable(table)[["image_id", "role"]].sort_values("image_id", ignore_index=True)
    rows["given_label"] = rows["image_id"].map(learned).astype(object)
    rows["fold"] = rows["image_id"].map(fold_of).fillna(-1).astype(np.int64)
    numbers = rows["given_label"].map({code: number for number, code in enumerate(codes)})
    rows["number"] = numbers.fillna(-1).astype(np.int64)
    rows["source"] = np.where(rows["fold"] >= 0, "out_of_fold", "fold_mean")
    return rows


def energies_of(logits: pd.DataFrame, codes: list[str], temperature: float) -> pd.Series:
    """Return the energy of the mean over views, by image_id and fold, of a table of logits."""
    means = logits.astype(dict.fromkeys(codes, np.float64)).groupby(["image_id", "fold"])[codes].mean()
    return pd.Series(energy_of(means.to_numpy(), temperature), index=means.index)


def read_energies(logits: list[Path], rows: pd.DataFrame, codes: list[str], temperature: float) -> pd.Series:
    """Return the energy of each image of `rows`, in their order: of the mean over views, then the mean over folds.

    Energies are averaged, not logits: the energy of mean logits is higher wherever folds differ, so that images that
    all folds judge would look stranger than those of one fold. Raises InputError where a training image is judged by
    a fold that learned it, or an image lacks a fold.
    """
    of_fold = []
    for path in logits:
        frame = LOGITS.read(path)
        if sorted(LOGITS.class_columns([str(name) for name in frame.columns])) != sorted(codes):
            raise InputError(f"{path}: its classes are not {codes}; delete it and run again")
        of_fold.append(energies_of(frame, codes, temperature))
    energies = pd.concat(of_fold).reset_index(name="energy")
    held = energies["image_id"].map(rows.set_index("image_id")["fold"])
    if ((held >= 0) & (held != energies["fold"])).any():
        raise InputError("logits of a training image come from a fold that learned it; delete results/5_classify")
    grouped = energies.groupby("image_id")["energy"]
    require_same_keys(energies["image_id"], rows["image_id"], "logits of all folds")
    counts = grouped.count().loc[rows["image_id"]].to_numpy()
    if (counts != np.where(rows["fold"] >= 0, 1, len(logits))).any():
        raise InputError("an image lacks the logits of a fold; delete results/5_classify and run again")
    means: pd.Series = grouped.mean().loc[rows["image_id"]]
    return means


def read_distances(embeddings: Path, rows: pd.DataFrame, components: int) -> tuple[np.ndarray, dict[int, ClassModel]]:
    """Return the distance of each image of `rows` to the nearest class, NaN without an embedding, and the models."""
    stored = EMBEDDINGS.read(embeddings).set_index("image_id")["embedding"]
    known = rows["image_id"].isin(stored.index).to_numpy(bool)
    if not known.all():
        log.warning("%d images have no embedding: neither distance nor disagreement", int((~known).sum()))
    found, models = np.full(len(rows), np.nan), {}
    if known.any():
        vectors = np.stack(stored.loc[rows.loc[known, "image_id"]].to_list()).astype(np.float32)
        numbers, folds = (rows.loc[known, name].to_numpy(np.int64) for name in ("number", "fold"))
        fitted = models_without(vectors, numbers, folds, components)
        found[known] = cross_fitted_distance(fitted, vectors, folds)
        models = {fold: model for fold, model in fitted.items() if model is not None}
    if np.isnan(found[known]).any():
        log.warning(
            "%d distances are gaps: the other folds hold too few cells, or cells that do not vary within classes",
            int(np.isnan(found[known]).sum()),
        )
    return found, models


def read_branches(
    probabilities: Path, head_probabilities: Path, rows: pd.DataFrame, codes: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the probabilities of both branches (n, K), NaN where one is missing, and those that judge given labels.

    The last are the mean of both, and branch A's alone where branch B is missing or has learned the image. Raises
    InputError where branch A has.
    """
    branch_a, branch_b = (read_probabilities(path, codes) for path in (probabilities, head_probabilities))
    require_same_keys(branch_a.index.to_series(), rows["image_id"], str(probabilities))
    branch_b = branch_b.reindex(rows["image_id"])
    learned = (rows["fold"] >= 0).to_numpy(bool)
    if (branch_a.loc[rows.loc[learned, "image_id"], "source"] != "out_of_fold").any():
        raise InputError(f"{probabilities}: training images are not predicted out of fold; delete it and run again")
    seen = learned & (branch_b["source"] == "in_sample").to_numpy(bool)
    if seen.any():
        log.warning(
            "branch B has learned %d training images (embed.train_head.cross_fit is off): labels are judged by branch A"
            " alone, and disagreement on these images says little",
            int(seen.sum()),
        )
    a, b = branch_a.loc[rows["image_id"], codes].to_numpy(np.float64), branch_b[codes].to_numpy(np.float64)
    alone = seen | np.isnan(b).any(axis=1)
    return a, b, np.where(alone[:, None], a, (a + b) / 2)


def with_branches(
    rows: pd.DataFrame, branches: tuple[np.ndarray, np.ndarray, np.ndarray], codes: list[str]
) -> pd.DataFrame:
    """Return the rows with what the branches say, and what they say of the given labels."""
    a, b, judges = branches
    names = np.array(codes, object)
    missing, learned = np.isnan(b).any(axis=1), (rows["fold"] >= 0).to_numpy(bool)
    # argmax of a row of NaN is 0: it is masked.
    label_b = pd.Series(names[b.argmax(axis=1)], dtype=object).mask(missing, None)
    rows = rows.assign(branch_a_label=names[a.argmax(axis=1)], branch_b_label=label_b, disagreement=divergence(a, b))
    numbers, folds = (rows.loc[learned, name].to_numpy(np.int64) for name in ("number", "fold"))
    doubts = label_doubts(judges[learned], numbers, folds)
    untold = int(np.isnan(doubts.doubt).sum())
    if untold:
        log.warning("%d labels cannot be judged: no other fold holds their class", untold)
    rows = rows.assign(label_doubt=np.nan, label_rank=np.nan, likely_label=None, contradicted=False)
    rows.loc[learned, "label_doubt"], rows.loc[learned, "label_rank"] = doubts.doubt, doubts.rank
    rows["likely_label"] = rows["likely_label"].astype(object)
    rows.loc[learned, "likely_label"], rows.loc[learned, "contradicted"] = names[doubts.likely], doubts.contradicted
    return rows


def log_counts(table: pd.DataFrame) -> None:
    """Log how many training and other images each kind of suspicion falls on."""
    learned = (table["source"] == "out_of_fold").to_numpy(bool)
    for kind in KINDS:
        raised = np.array([kind in names.split(",") for names in table["kinds"]], bool)
        log.info(
            "suspects by %s: %d of %d training images, %d of %d others",
            *(kind, (raised & learned).sum(), learned.sum(), (raised & ~learned).sum(), (~learned).sum()),
        )
    log.info("%d of %d images are suspect", int(table["suspect"].sum()), len(table))


def find_suspects(
    *, images: Path, classes: Path, folds: Path, probabilities: Path, logits: list[Path], head_probabilities: Path,
    embeddings: Path, suspects: Path, familiar: Path, settings: FindSuspects,
) -> None:  # fmt: skip
    """Write a row per decodable image: how unlike the training cells, how disputed, how doubtfully labelled it is.

    What new images can be compared with goes into `familiar`.
    """
    codes = class_codes(CLASSES.read(classes))
    rows = read_rows(images, folds, codes)
    learned = (rows["fold"] >= 0).to_numpy(bool)
    energies = read_energies(logits, rows, codes, settings.energy_temperature).to_numpy(np.float64)
    distances, models = read_distances(embeddings, rows, settings.components)
    rows = rows.assign(
        energy=energies,
        energy_quantile=share_below(energies, energies[learned]),
        feature_distance=distances,
        feature_distance_quantile=share_below(distances, distances[learned]),
    )
    rows = with_branches(rows, read_branches(probabilities, head_probabilities, rows, codes), codes)
    table = with_reasons(rows, settings).set_index("image_id")
    ordered = decodable(IMAGES.read(images))["image_id"]
    table = table.loc[ordered].reset_index()
    table["label_rank"] = table["label_rank"].astype("Int32")
    log_counts(table)
    write_familiar(Familiar(models, energies[learned], distances[learned]), familiar)
    SUSPECTS.write(table[[column.name for column in SUSPECTS.columns]], suspects)


if __name__ == "__main__":
    run(find_suspects)
