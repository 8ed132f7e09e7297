"""How unlike the training cells an image is: energy of logits, distance of embeddings, and the file of both."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from scipy.linalg import cholesky, solve_triangular
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA

from buffycoat.core.errors import InputError
from buffycoat.core.files import OPEN_SEAL, close_seal, is_whole, whole_file
from buffycoat.nets.batches import by_blocks

Values = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
Verdicts = npt.NDArray[np.bool_]

PARTS = ("centre", "axes", "whitening", "means")
COMPONENTS = 64
"""Principal components of the embeddings that distances are measured in, at most: more than a rare class has cells, few
enough that the shared covariance is well known; ours."""
NUDGE = 1e-9
"""Added to the covariance's diagonal, as a share of its mean: shrinkage alone may leave a few cells' singular."""


def energy_of(logits: Values) -> Values:
    """Return -logsumexp(logits) of logits (n, K): (n,), in the unit of the logits.

    The higher, the less evidence there is for any class (arXiv 2010.03759, equation 4, at T = 1, as there).
    """
    lowered: Values = -logsumexp(logits, axis=1)
    return lowered


def share_below(values: Values, reference: Values) -> Values:
    """Return which share of `reference` (m,) lies below each of `values` (n,): 0..1; NaN where value is or m is 0.

    NaN in `reference` counts as absent.
    """
    known = np.sort(reference[~np.isnan(reference)])
    if len(known) == 0:
        return np.full(len(values), np.nan)
    return np.where(np.isnan(values), np.nan, np.searchsorted(known, values, side="left") / len(known))


def sure_above(confidences: Values, right: Verdicts, quantile: float) -> float:
    """Return the probability up to which an image is suspect, 0..1; NaN without a row.

    It is the largest one for which either holds: of the rows with at most this probability half or more were wrong; or
    at least the share `quantile` of all rows have a higher one.

    Parameters: confidences (n,), the probability of the most probable class of each training image, out of fold; right
    (n,), whether that class is the given label.
    """
    order = np.argsort(confidences, kind="stable")
    values = confidences[order]
    # The last of equal values stands for all of them.
    last = np.append(values[1:] != values[:-1], True) if len(values) else np.zeros(0, bool)
    counts = np.arange(1, len(values) + 1)
    wrong = np.cumsum(~right[order])
    suspect = last & ((2 * wrong >= counts) | (len(values) - counts >= quantile * len(values)))
    return float(values[suspect].max()) if suspect.any() else math.nan


@dataclass(frozen=True)
class ClassModel:
    """Class means with one shared covariance: distances are Euclidean after projection and whitening."""

    centre: Vectors
    """Mean of all vectors, (D,)."""
    axes: Vectors
    """Principal axes, (d, D)."""
    whitening: Values
    """Lower Cholesky factor of the covariance, (d, d)."""
    means: Values
    """Whitened class means, (classes, d)."""

    def distance(self, vectors: Vectors) -> Values:
        """Return the distance of vectors (n, D) to the nearest class mean: (n,), in within-class SDs."""
        return by_blocks(self._distance, vectors) if len(vectors) else np.zeros(0)

    def _distance(self, vectors: npt.NDArray[np.floating]) -> Values:
        reduced = (vectors - self.centre) @ self.axes.T
        nearest: Values = cdist(whitened(reduced, self.whitening), self.means).min(axis=1)
        return nearest


def whitened(reduced: npt.NDArray[np.floating], factor: Values) -> Values:
    """Return rows (n, d) in coordinates in which the covariance with this Cholesky factor is the identity."""
    turned: Values = solve_triangular(factor, reduced.T.astype(np.float64), lower=True).T
    return turned


def fit_classes(vectors: Vectors, numbers: Numbers, components: int) -> ClassModel | None:
    """Return the model of labelled vectors (n, D); None where there are too few, or they do not vary within classes.

    The shared covariance is Ledoit-Wolf's of the principal components less their class means, on n - K degrees of
    freedom, as K means are fitted (arXiv 1807.03888, section 2.1, without its calibration by perturbed inputs).
    """
    names, places = np.unique(numbers, return_inverse=True)
    freedom = len(vectors) - len(names)
    if freedom < 1 or (vectors == vectors[0]).all():
        return None
    pca = PCA(min(components, vectors.shape[1], len(vectors) - 1), svd_solver="covariance_eigh")
    reduced = pca.fit_transform(vectors).astype(np.float64)
    means = np.stack([reduced[places == k].mean(axis=0) for k in range(len(names))])
    shared = LedoitWolf(assume_centered=True).fit(reduced - means[places]).covariance_ * (len(vectors) / freedom)
    size = np.trace(shared) / len(shared)
    # Vectors have length 1: a spread under that of their rounding (float32) is none.
    if size < np.finfo(np.float32).eps ** 2:
        return None
    factor = cholesky(shared + NUDGE * size * np.eye(len(shared)), lower=True)
    return ClassModel(pca.mean_, pca.components_, factor, whitened(means, factor))


def models_without(vectors: Vectors, numbers: Numbers, folds: Numbers, components: int) -> dict[int, ClassModel | None]:
    """Return, by fold, the model of the rows of all other folds; None where none can be fitted.

    Parameters: vectors (n, D); numbers (n,), classes; folds (n,), -1 for rows that nothing is fitted on.
    """
    learned = folds >= 0
    return {
        int(fold): fit_classes(vectors[learned & (folds != fold)], numbers[learned & (folds != fold)], components)
        for fold in np.unique(folds[learned])
    }


def mean_distance(models: Iterable[ClassModel | None], vectors: Vectors) -> Values:
    """Return the mean over models of the distance of vectors (n, D) to the nearest class: (n,); NaN without a model."""
    found = [model.distance(vectors) for model in models if model is not None]
    return np.mean(found, axis=0) if found else np.full(len(vectors), np.nan)


def cross_fitted_distance(models: Mapping[int, ClassModel | None], vectors: Vectors, folds: Numbers) -> Values:
    """Return each vector's distance to the nearest class: (n,) of vectors (n, D).

    A row of fold k is measured by the model without fold k, every other row (-1) by the mean over the models. NaN where
    there is no model.
    """
    found = np.full(len(vectors), np.nan)
    found[folds < 0] = mean_distance(models.values(), vectors[folds < 0])
    for fold, model in models.items():
        found[folds == fold] = mean_distance([model], vectors[folds == fold])
    return found


@dataclass(frozen=True)
class Familiar:
    """What new images are compared with."""

    models: dict[int, ClassModel]
    """By the fold that the model did not see."""
    energies: Values
    """Energy of each training image, out of fold, (n,)."""
    distances: Values
    """Distance of each training image to the nearest class, out of fold, (n,); NaN without one."""
    sure_above: float
    """Branch A's highest probability up to which an image is suspect (`sure_above`), 0..1; NaN: none is."""


def write_familiar(familiar: Familiar, path: Path) -> None:
    """Write models and values."""
    tensors = {"energies": familiar.energies, "distances": familiar.distances}
    tensors["sure_above"] = np.array([familiar.sure_above], np.float64)
    for fold, model in familiar.models.items():
        tensors |= {f"fold_{fold}.{part}": np.ascontiguousarray(getattr(model, part)) for part in PARTS}
    with whole_file(path) as partial:
        partial.write_bytes(save(tensors, {"seal": OPEN_SEAL}))
        close_seal(partial)


def read_familiar(path: Path) -> Familiar:
    """Read what `write_familiar` wrote; raises InputError where the file is missing, damaged or of another form."""
    try:
        if not is_whole(path):
            raise ValueError("its bytes are not those that were written")
        tensors = load_file(path)
        energies, distances = tensors.pop("energies"), tensors.pop("distances")
        (sure,) = tensors.pop("sure_above").tolist()
        folds = sorted({int(name.partition(".")[0].removeprefix("fold_")) for name in tensors})
        models = {fold: ClassModel(*(tensors[f"fold_{fold}.{part}"] for part in PARTS)) for fold in folds}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (SafetensorError, KeyError, ValueError) as problem:
        raise InputError(f"{path}: not the models of familiar images ({problem}); delete it and run again") from None
    return Familiar(models, energies, distances, float(sure))


def embedded(rows: pd.DataFrame, embeddings: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows have an embedding, (n,) bool, and the vectors of these, (m, D) float32."""
    stored = embeddings.set_index("image_id")["embedding"]
    known = rows["image_id"].isin(stored.index).to_numpy(bool)
    if not known.any():
        return known, np.zeros((0, 0), np.float32)
    return known, np.stack(stored.loc[rows.loc[known, "image_id"]].to_list()).astype(np.float32)


def distances_of(rows: pd.DataFrame, embeddings: pd.DataFrame, familiar: Familiar) -> Values:
    """Return the distance of each row to the nearest class, (n,) within-class SDs.

    A learned row is measured by the model without its fold, any other by the mean over models. NaN without an
    embedding or a model.
    """
    known, vectors = embedded(rows, embeddings)
    distances = np.full(len(rows), np.nan)
    if known.any():
        distances[known] = cross_fitted_distance(familiar.models, vectors, rows.loc[known, "fold"].to_numpy(np.int64))
    return distances


def fit_familiar(rows: pd.DataFrame, embeddings: pd.DataFrame, quantile: float) -> Familiar:
    """Return what new images are compared with, of the learned ones of the rows.

    Parameters: rows, with image_id, fold, number, energy, confidence (branch A's highest probability) and right
    (whether it is that of the given label); quantile, as in the settings.
    """
    learned = rows[rows["fold"] >= 0]
    known, vectors = embedded(learned, embeddings)
    numbers, folds = (learned.loc[known, name].to_numpy(np.int64) for name in ("number", "fold"))
    fitted = models_without(vectors, numbers, folds, COMPONENTS)
    models = {fold: model for fold, model in fitted.items() if model is not None}
    energies, confidences = (learned[name].to_numpy(np.float64) for name in ("energy", "confidence"))
    sure = sure_above(confidences, learned["right"].to_numpy(bool), quantile)
    unmeasured = Familiar(models, energies, np.full(len(learned), np.nan), sure)
    return replace(unmeasured, distances=distances_of(learned, embeddings, unmeasured))
