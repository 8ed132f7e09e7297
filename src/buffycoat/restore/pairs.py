"""Pairs of a degraded and a clean crop, each made from (seed, what for, number) alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from buffycoat.core.errors import InputError
from buffycoat.data.clean_pairs import aligned, paired_crops
from buffycoat.data.degradations import DEGRADATIONS
from buffycoat.data.images import CellImages, Pixels
from buffycoat.data.labels import trainable
from buffycoat.data.random import stream
from buffycoat.restore.settings import TrainGan

SEVERITY = (1.0, 4.0)
"""Range that the severity of a pair is drawn from, uniformly: the levels of data/degradations.py; ours."""
HELD_OUT = 0.1
"""Share of the groups (images where groups are unknown) that are judged on only; ours."""
FOR_ABLATION = ", and for the ablation take pix2pix out of report.compare_recipes.restorations"
"""What else has to change where Pix2Pix cannot be trained."""


def divide_pairs(rows: pd.DataFrame, held_out: float, seed: int) -> pd.DataFrame:
    """Return image_id and part; whole groups are held out, at least one, and never all."""
    groups = rows["group"].where(rows["group"].notna(), "image:" + rows["image_id"])
    names = sorted(groups.unique())
    if len(names) < 2:
        raise InputError(
            "restore: all clean training crops are of one group, so none can be held out; use method median"
            f"{FOR_ABLATION}"
        )
    count = min(len(names) - 1, max(1, round(held_out * len(names))))
    chosen = set(stream(seed, "pairs").choice(np.array(names, dtype=object), size=count, replace=False))
    part = np.where(groups.isin(chosen), "held_out", "fit")
    return pd.DataFrame({"image_id": rows["image_id"], "part": part})


def pairs_of(images: pd.DataFrame, labels: pd.DataFrame, noise: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the clean crops of trainable images (table PAIRS), some groups held out for judging.

    Parameters: the rows of the tables IMAGES, LABELS and NOISE. Raises InputError where no crop is clean.
    """
    rows = trainable(images, labels).merge(noise[["image_id", "noisy"]], on="image_id")
    clean = rows[~rows["noisy"]].reset_index(drop=True)
    if clean.empty:
        raise InputError(
            "restore.train_gan: every training crop is flagged as noisy, so there is nothing clean to learn from;"
            " raise partition.flag_noisy.level (threshold: fixed), or set restore.restore_cells.method: median"
            f"{FOR_ABLATION}"
        )
    return divide_pairs(clean, HELD_OUT, seed)


def given_pairs(images: pd.DataFrame, labels: pd.DataFrame, crops: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the degraded training images whose clean form is there (table PAIRS), some groups held out for judging.

    Parameters: the rows of the tables IMAGES, LABELS and CROPS. Raises InputError where there is none.
    """
    known = set(paired_crops(images, crops)["image_id"])
    rows = trainable(images, labels)
    rows = rows[rows["image_id"].isin(known)].reset_index(drop=True)
    if rows.empty:
        raise InputError(
            "restore.train_gan.pairs: given, but no degraded training image has a clean form in the data (column"
            " `original` of images.parquet); set pairs: made"
        )
    return divide_pairs(rows, HELD_OUT, seed)


def crops_of_pairs(pairs: pd.DataFrame, cells: CellImages) -> CleanCrops:
    """Return the clean crops of given pairs, moved to where the degraded ones lie, and these.

    Parameters: pairs, rows of `paired_crops`; cells, all crops. Where a clean crop does not reach, it is completed by
    the degraded one.
    """
    places = {image_id: place for place, image_id in enumerate(cells.ids)}
    clean, damaged = [], []
    columns = (pairs[name] for name in ("image_id", "original", "window_px", "down", "right"))
    for image_id, original, window_px, down, right in zip(*columns, strict=True):
        worse = cells.crop(places[image_id])
        better, inside = aligned(cells.crop(places[original]), int(window_px), float(down), float(right))
        clean.append(np.where(inside[..., None], better, worse))
        damaged.append(worse)
    severities = tuple("unknown" if pd.isna(name) else str(name) for name in pairs["severity"])
    return CleanCrops(np.stack(clean), pairs["window_px"].to_numpy(np.int64), np.stack(damaged), severities)


def digest_of(pairs: pd.DataFrame) -> str:
    """Return a digest of the rows of PAIRS: what a training depends on of the labels, for it reads nothing else."""
    lines = "\n".join(f"{image_id}\t{part}" for image_id, part in zip(pairs["image_id"], pairs["part"], strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


@dataclass(frozen=True)
class CleanCrops:
    """Clean crops (n, S, S, 3) uint8 and the side of the source window of each, (n,) pixels.

    `damaged`: the same cells from degraded images, where the source gives them, and `severities`, in its words.
    """

    pixels: Pixels
    window_px: npt.NDArray[np.int64]
    damaged: Pixels | None = None
    severities: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of crops."""
        return len(self.pixels)


def to_tensor(images: Pixels) -> Tensor:
    """Return (n, H, W, 3) uint8 as (n, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 127.5 - 1


def to_pixels(images: Tensor) -> Pixels:
    """Return (n, 3, H, W) in [-1, 1] as (n, H, W, 3) uint8."""
    values = ((images.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(values.numpy().transpose(0, 2, 3, 1))


def degrade_at_source(crop: Pixels, window_px: int, kind: str, severity: float, rng: np.random.Generator) -> Pixels:
    """Return the crop (S, S, 3) as it would be cut from a source image degraded by `kind`.

    Damage happens in the source image, and shrinking the window to the crop averages noise away. So the crop is
    enlarged to its window's size, degraded there, and what that changed is shrunk as the cropping does and added to the
    crop: the crop's own detail is not lost by the detour. Where the window is no larger than the crop, the crop itself
    is degraded.
    """
    side = crop.shape[0]
    if window_px <= side:
        return DEGRADATIONS[kind](crop, severity, rng)
    window = np.asarray(cv2.resize(crop, (window_px, window_px), interpolation=cv2.INTER_LINEAR), np.uint8)
    change = DEGRADATIONS[kind](window, severity, rng).astype(np.float32) - window
    shrunk = cv2.resize(change, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(np.clip(np.rint(crop + shrunk), 0, 255), np.uint8)


def degrade(crop: Pixels, window_px: int, settings: TrainGan, rng: np.random.Generator) -> tuple[Pixels, str]:
    """Return a degraded copy of a crop and the kind of degradation; kind and severity are drawn."""
    kind = settings.kinds[int(rng.integers(len(settings.kinds)))]
    severity = float(rng.uniform(*SEVERITY))
    return degrade_at_source(crop, window_px, kind, severity, rng), kind


def turned(crop: Pixels, turns: int, mirrored: bool) -> Pixels:
    """Return a crop after quarter turns, then mirrored or not."""
    whole = np.rot90(crop, turns)
    return np.ascontiguousarray(whole[:, ::-1] if mirrored else whole)


def training_batch(crops: CleanCrops, settings: TrainGan, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Return (noisy, clean) tensors of one step; crops are drawn with replacement and turned or mirrored at random."""
    rng = stream(seed, "gan", step)
    side = crops.pixels.shape[1]
    patch = min(settings.patch_px or side, side)
    noisy, clean = [], []
    for place in rng.integers(len(crops), size=settings.batch):
        turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
        crop = turned(crops.pixels[place], turns, mirrored)
        if crops.damaged is None:
            damaged = degrade(crop, int(crops.window_px[place]), settings, rng)[0]
        else:
            damaged = turned(crops.damaged[place], turns, mirrored)
        # Blur and light depend on the whole field, so the patch is cut after they have acted.
        top, left = rng.integers(side - patch + 1, size=2)
        patch_of = np.s_[top : top + patch, left : left + patch]
        noisy.append(damaged[patch_of])
        clean.append(crop[patch_of])
    return to_tensor(np.stack(noisy)), to_tensor(np.stack(clean))


def held_out_pairs(crops: CleanCrops, settings: TrainGan, seed: int) -> tuple[Pixels, list[str]]:
    """Return one degraded version of each held-out crop and its kind or severity; the same at every judgement."""
    if crops.damaged is not None:
        return crops.damaged, list(crops.severities)
    made = [
        degrade(crop, int(window_px), settings, stream(seed, "held out", place))
        for place, (crop, window_px) in enumerate(zip(crops.pixels, crops.window_px, strict=True))
    ]
    return np.stack([noisy for noisy, _ in made]), [kind for _, kind in made]
