"""From images to labels: each stage's `apply`, one after the other, on frames in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from buffycoat.bundle.models import Models
from buffycoat.bundle.verdict import differences, measured
from buffycoat.classify import combine_folds, predict_fold
from buffycoat.crop import crop_cells
from buffycoat.data.images import CellImages
from buffycoat.data.labels import class_numbers
from buffycoat.data.tables.classify import LOGITS, PROBABILITIES
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.embed import EMBEDDINGS
from buffycoat.data.tables.measure import MORPHOLOGY
from buffycoat.data.tables.partition import NOISE, NOISE_SCORES
from buffycoat.data.tables.refine import REFINED_LABELS
from buffycoat.data.tables.restore import CELLS
from buffycoat.data.tables.review import SUSPECTS
from buffycoat.embed import embed_cells, train_head
from buffycoat.measure import measure_cells
from buffycoat.partition import flag_noisy, measure_noise
from buffycoat.refine import refine_labels
from buffycoat.refine.evidence import Inputs
from buffycoat.restore import restore_cells
from buffycoat.review import find_suspects


@dataclass(frozen=True)
class Frames:
    """The tables of one chunk of images, each with a row per image in the same order."""

    crops: pd.DataFrame
    """Table CROPS."""
    noise: pd.DataFrame
    """Table NOISE."""
    cells: pd.DataFrame
    """Table CELLS."""
    shapes: pd.DataFrame
    """Table MORPHOLOGY."""
    branch_a: pd.DataFrame
    """Table PROBABILITIES of branch A."""
    labels: pd.DataFrame
    """Table REFINED_LABELS."""
    suspects: pd.DataFrame
    """Table SUSPECTS."""


def label_images(images: pd.DataFrame, models: Models, folder: Path, exact: bool) -> pd.DataFrame:
    """Return the columns of the table of new images that sound images have, by image_id.

    Parameters: images, with image_id, path, width, height and sha256; folder, an empty one for image shards; exact,
    whether a batch is as large as in the workflow, also where there are fewer images.
    """
    return joined(stage_frames(images, models, folder, exact), models)


def stage_frames(images: pd.DataFrame, models: Models, folder: Path, exact: bool) -> Frames:
    """Return what each stage makes of the images.

    Each frame is cast to its table before the next stage takes it: the workflow rounds numbers when it stores them.
    """
    ids = images["image_id"].reset_index(drop=True)
    rows = pd.DataFrame({"image_id": ids, "fold": np.nan, "out_of_fold": False})
    crops = CROPS.cast(cut_out(images, models, folder))
    original = CellImages(crops, folder / "crops.parquet")
    scores = NOISE_SCORES.cast(measure_noise.apply(crops, models.noise_meter, images, original))
    noise = NOISE.cast(flag_noisy.apply(scores, models.levels))
    cells, _ = restore_cells.apply(crops, models.restorer, noise, original, folder / "cells", folder / "cells.parquet")
    cells = CELLS.cast(cells)
    restored = CellImages(cells, folder / "cells.parquet")
    folds = models.folds if exact else [replace(model, batch=min(model.batch, len(ids))) for model in models.folds]
    logits = pd.concat([LOGITS.cast(predict_fold.apply(rows, model, restored)) for model in folds], ignore_index=True)
    branch_a = PROBABILITIES.cast(combine_folds.apply(logits, models.ensemble, ids))
    embedder = models.embedder if exact else replace(models.embedder, batch=min(models.embedder.batch, len(ids)))
    vectors = EMBEDDINGS.cast(embed_cells.apply(cells, embedder, restored))
    branch_b = PROBABILITIES.cast(train_head.apply(rows.merge(vectors, on="image_id"), models.heads))
    shapes = MORPHOLOGY.cast(measure_cells.apply(cells, models.cell_meter, crops, restored))
    labels = REFINED_LABELS.cast(refine_labels.apply(rows, models.refiner, Inputs(branch_a, branch_b, shapes)))
    energies = find_suspects.mean_energies(logits, models.codes).loc[ids].to_numpy()
    unlearned = find_suspects.with_cells(find_suspects.new_rows(ids), crops, images).assign(energy=energies)
    suspects = SUSPECTS.cast(find_suspects.apply(unlearned, models.finder, vectors, branch_a, branch_b))
    return Frames(crops, noise, cells, shapes, branch_a, labels, suspects)


def cut_out(images: pd.DataFrame, models: Models, folder: Path) -> pd.DataFrame:
    """Return the rows of crops; torch keeps its number of threads, which the embedded segmenter sets to one."""
    threads = torch.get_num_threads()
    crops = crop_cells.apply(images, models.cropper, folder / "crops", folder / "crops.parquet")
    torch.set_num_threads(threads)
    return crops


def joined(frames: Frames, models: Models) -> pd.DataFrame:
    """Return the columns of the table of new images, by image_id."""
    codes = models.codes
    measures = measured(frames.crops, frames.noise, frames.shapes, frames.suspects)
    labels = frames.labels.set_index("image_id")
    crops, noise, cells, suspects, branch_a = (
        frame.set_index("image_id").loc[labels.index]
        for frame in (frames.crops, frames.noise, frames.cells, frames.suspects, frames.branch_a)
    )
    values = branch_a[codes].to_numpy(np.float64)
    numbers = labels["label"].map(class_numbers(codes)).to_numpy(np.int64)
    columns = ["label", "base_label", "changed", "reason", "near_miss", "near_miss_reason", "trace"]
    return labels[columns].assign(
        label_name=labels["label"].map(models.names),
        probability=values[np.arange(len(values)), numbers],
        probabilities=list(values),
        cell_found=crops["found"],
        cells=crops["masks"],
        diameter_px=measures["diameter_px"].loc[labels.index],
        noisy=noise["noisy"],
        blurred=noise["blurred"],
        badly_lit=noise["badly_lit"],
        restored=cells["restored"],
        energy_quantile=suspects["energy_quantile"],
        distance_quantile=suspects["feature_distance_quantile"],
        branch_b_label=suspects["branch_b_label"],
        disagreement=suspects["disagreement"],
        unlike=pd.Series(differences(measures, models.manifest.usual), measures.index).loc[labels.index],
        suspect=suspects["suspect"],
        kinds=suspects["kinds"],
        suspect_reason=suspects["reason"],
    )
