"""From checked images to their rows: the workflow's own functions, one after the other, on one chunk of images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from buffycoat.bundle.inputs import as_images, shown
from buffycoat.bundle.models import Models
from buffycoat.classify.combine_folds import mean_probabilities, temperatures_of
from buffycoat.classify.crops import Crops
from buffycoat.classify.predict_fold import logits_table, predict_views
from buffycoat.crop.crop_cells import cropped, framed_cells
from buffycoat.data.images import CellImages, ShardWriter
from buffycoat.data.labels import class_numbers
from buffycoat.data.tables.classify import PROBABILITIES
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import IMAGES
from buffycoat.data.tables.partition import NOISE, NOISE_SCORES
from buffycoat.data.tables.restore import CELLS
from buffycoat.embed.embed_cells import embed, require_unit
from buffycoat.embed.train_head import combine_heads
from buffycoat.measure.measure_cells import measure_cells
from buffycoat.nets.device import pick_device
from buffycoat.partition.measure_noise import measure_noise
from buffycoat.partition.verdicts import flag
from buffycoat.refine.algorithm import apply_rules
from buffycoat.refine.evidence import read_evidence
from buffycoat.refine.refine_labels import labels_table
from buffycoat.restore.restore_cells import restored_to
from buffycoat.review.find_suspects import energies_of, read_branches, with_branches, with_reasons
from buffycoat.review.outliers import mean_distance, share_below


class Tables:
    """Where a chunk's tables lie while it is worked on."""

    def __init__(self, folder: Path) -> None:
        """Name the files; `folder` is empty and is deleted afterwards."""
        names = ("images", "crops", "noise_scores", "noise", "cells", "refused", "branch_a", "branch_b", "morphology")
        for name in names:
            setattr(self, name, folder / f"{name}.parquet")
        self.crop_shards, self.cell_shards, self.links = folder / "crops", folder / "cells", folder / "links"

    images: Path
    crops: Path
    noise_scores: Path
    noise: Path
    cells: Path
    refused: Path
    branch_a: Path
    branch_b: Path
    morphology: Path


def label_images(checked: pd.DataFrame, models: Models, folder: Path, exact: bool) -> pd.DataFrame:
    """Return what there is to say of each sound image, by image_id; the index of the table of new images.

    `checked`: rows as `inputs.checked` gives them, all with status 'ok'. Tables are written and read between the steps
    as the workflow does it, so that numbers are rounded alike.
    """
    tables = Tables(folder)
    IMAGES.write(openable(as_images(checked), checked, tables.links)[[c.name for c in IMAGES.columns]], tables.images)
    crop_images(models, tables)
    ids = IMAGES.read(tables.images)["image_id"]
    logits = branch_a(models, tables, ids, exact)
    vectors = branch_b(models, tables, ids, exact)
    measure_cells(
        crops=tables.crops, cells=tables.cells, morphology=tables.morphology, threads=models.threads,
        settings=models.measure_cells,
    )  # fmt: skip
    evidence = read_evidence(
        ids, classes=models.classes, probabilities=tables.branch_a, head_probabilities=tables.branch_b,
        morphology=tables.morphology,
    )  # fmt: skip
    labels = labels_table(ids, apply_rules(evidence, models.rules)).set_index("image_id")
    return joined(labels, suspects(models, tables, logits, vectors, ids), tables, models.codes)


def openable(images: pd.DataFrame, checked: pd.DataFrame, links: Path) -> pd.DataFrame:
    """Return the table of images with paths that a table can hold: links to files whose names are no UTF-8."""
    paths = []
    for number, (root, name) in enumerate(zip(checked["root"], checked["name"], strict=True)):
        real = os.path.join(root, name)
        if shown(real) != real:
            links.mkdir(exist_ok=True)
            link = links / f"{number}"
            link.symlink_to(os.path.abspath(real))
            real = str(link)
        paths.append(real)
    return images.assign(path=paths)


def crop_images(models: Models, tables: Tables) -> None:
    """Find, cut out, judge and restore the cells."""
    images = IMAGES.read(tables.images)
    tables.crop_shards.mkdir()
    threads = torch.get_num_threads()
    with ShardWriter(tables.crop_shards, models.crop.size_px) as writer:
        framed = framed_cells(images, models.crop, models.pool, models.segment)
        crops = cropped(images["image_id"], framed, models.crop.window_px, tables.crops, tables.crop_shards, writer)
    # The embedded segmenter sets it to one.
    torch.set_num_threads(threads)
    CROPS.write(crops, tables.crops)
    measure_noise(
        images=tables.images, crops=tables.crops, scores=tables.noise_scores, threads=models.threads,
        settings=models.measure_noise,
    )  # fmt: skip
    NOISE.write(flag(NOISE_SCORES.read(tables.noise_scores), models.levels), tables.noise)
    restored_to(
        tables.crops, tables.noise, tables.cells, tables.refused, tables.cell_shards, models.restore,
        lambda: models.restorer,
    )  # fmt: skip


def branch_a(models: Models, tables: Tables, ids: pd.Series, exact: bool) -> pd.DataFrame:
    """Write branch A's probabilities; return the logits of all folds and views."""
    device = pick_device()
    settings = models.predict_fold
    if not exact:
        settings = settings.model_copy(update={"batch": min(settings.batch, len(ids))})
    rows = pd.DataFrame({"image_id": ids, "out_of_fold": False})
    parts = []
    for fold, (network, trained) in models.folds.items():
        crops = Crops(tables.cells, trained.background, trained.size_px, device)
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        values = predict_views(network, crops, crops.positions(ids), settings)
        parts.append(logits_table(values, rows, fold, models.codes))
    logits = pd.concat(parts, ignore_index=True)
    means = mean_probabilities(logits, models.codes, temperatures_of(logits, models.calibration))
    PROBABILITIES.write(means.set_index("image_id").loc[ids].reset_index(), tables.branch_a)
    return logits


def branch_b(models: Models, tables: Tables, ids: pd.Series, exact: bool) -> np.ndarray:
    """Write branch B's probabilities; return the embeddings, (n, D) float32."""
    frame = CELLS.read(tables.cells)
    settings = models.embed
    if not exact:
        settings = settings.model_copy(update={"batch": min(settings.batch, len(ids))})
    vectors = embed(CellImages(frame, tables.cells), models.encoder, settings)
    require_unit(vectors, frame["image_id"])
    unlearned = frame[["image_id"]].assign(fold=np.nan)
    heads = combine_heads(unlearned, torch.from_numpy(vectors), models.heads, models.codes, models.train_head)
    PROBABILITIES.write(heads, tables.branch_b)
    return vectors


def suspects(models: Models, tables: Tables, logits: pd.DataFrame, vectors: np.ndarray, ids: pd.Series) -> pd.DataFrame:
    """Return, by image_id, how unlike the training images and how disputed each is, and whether that is suspect."""
    settings, familiar = models.find_suspects, models.familiar
    rows = pd.DataFrame({"image_id": ids, "fold": -1, "number": -1})
    energies = energies_of(logits, models.codes, settings.energy_temperature).groupby("image_id").mean().loc[ids]
    distances = mean_distance(familiar.models.values(), vectors)
    rows = rows.assign(
        energy=energies.to_numpy(),
        energy_quantile=share_below(energies.to_numpy(), familiar.energies),
        feature_distance=distances,
        feature_distance_quantile=share_below(distances, familiar.distances),
    )
    branches = read_branches(tables.branch_a, tables.branch_b, rows, models.codes)
    return with_reasons(with_branches(rows, branches, models.codes), settings).set_index("image_id")


def joined(labels: pd.DataFrame, doubts: pd.DataFrame, tables: Tables, codes: list[str]) -> pd.DataFrame:
    """Return the columns of the table of new images that sound images have, by image_id."""
    chances = PROBABILITIES.read(tables.branch_a).set_index("image_id").loc[labels.index, codes]
    place = labels["label"].map(class_numbers(codes)).to_numpy(np.int64)
    values = chances.to_numpy(np.float64)
    crops, noise, cells = (
        table.read(path).set_index("image_id").loc[labels.index]
        for table, path in ((CROPS, tables.crops), (NOISE, tables.noise), (CELLS, tables.cells))
    )
    told = labels[["label", "base_label", "changed", "reason", "near_miss", "near_miss_reason", "trace"]]
    return told.assign(
        probability=values[np.arange(len(values)), place],
        probabilities=list(values),
        cell_found=crops["found"],
        cells=crops["masks"],
        noisy=noise["noisy"],
        blurred=noise["blurred"],
        badly_lit=noise["badly_lit"],
        restored=cells["restored"],
        energy_quantile=doubts["energy_quantile"],
        distance_quantile=doubts["feature_distance_quantile"],
        branch_b_label=doubts["branch_b_label"],
        disagreement=doubts["disagreement"],
        suspect=doubts["suspect"],
        kinds=doubts["kinds"],
        suspect_reason=doubts["reason"],
    )
