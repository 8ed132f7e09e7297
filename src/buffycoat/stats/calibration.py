"""Temperature of branch A: fitted on out-of-fold images, crossed over folds, for the mean over views."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

from buffycoat.core.errors import InputError
from buffycoat.stats.scores import calibration_error

log = logging.getLogger("buffycoat")
LOWEST, HIGHEST = 0.05, 20.0
"""Bounds of a temperature: where every image is right the likeliest one is 0, and probabilities would be 0 and 1."""
BINS = 15
"""Bins of the calibration error, of equal width in the largest probability; as in arXiv 1706.04599."""

Values = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


def view_mean(logits: Values, temperature: float = 1.0) -> Values:
    """Return the mean over views of softmax(logits / temperature): (n, views, K) to (n, K), rows summing to one."""
    means: Values = softmax(logits / temperature, axis=2).mean(axis=1)
    return means


def fit_temperature(logits: Values, labels: Numbers, whose: str = "all folds") -> float:
    """Return the temperature under which labels (n,) are likeliest, from logits (n, views, K); 1 where n is 0.

    What is calibrated is what is used, the mean over views; with one view this is arXiv 1706.04599, section 4.2. The
    temperature stays within LOWEST and HIGHEST; `whose` names the images in the warning that it has met a bound.
    """
    if len(labels) == 0:
        log.warning("calibration, %s: no held-out image with a label; its probabilities stay as they are", whose)
        return 1.0
    below = logits - logits.max(axis=2, keepdims=True)
    own = np.take_along_axis(below, labels[:, None, None], axis=2)[:, :, 0]

    def surprise(logarithm: float) -> float:
        """Return the negative log-likelihood, up to a constant; in logarithms, so that no probability becomes 0."""
        inverse = math.exp(-logarithm)
        by_view = own * inverse - np.log(np.exp(below * inverse).sum(axis=2))
        return -float(logsumexp(by_view, axis=1).mean())

    found = minimize_scalar(
        surprise, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded", options={"xatol": 1e-7}
    )
    temperature = math.exp(float(found.x))
    if not 1.01 * LOWEST < temperature < 0.99 * HIGHEST:
        log.warning(
            "calibration, %s: the temperature %.3g meets its bound (%d images: hardly a mistake, or mere chance)",
            whose, temperature, len(labels),
        )  # fmt: skip
    return temperature


def stacked(logits: pd.DataFrame, codes: list[str]) -> tuple[list[str], Numbers, Values]:
    """Return image_id (n), fold (n,) and logits (n, views, K) of rows that have one fold per image.

    Raises InputError where images differ in their views.
    """
    ordered = logits.sort_values(["image_id", "view"], kind="stable")
    views = sorted(ordered["view"].unique())
    count = max(len(views), 1)
    if len(ordered) % count or (ordered["view"].to_numpy().reshape(-1, count) != views).any():
        raise InputError("images differ in the views of their logits; delete results/5_classify and run again")
    first = ordered.iloc[::count]
    values = ordered[codes].to_numpy(np.float64).reshape(len(first), count, len(codes))
    return first["image_id"].tolist(), first["fold"].to_numpy(np.int64), values


def calibrate(logits: pd.DataFrame, numbers: pd.Series, codes: list[str], fitted: bool = True) -> dict[str, Any]:
    """Return the temperature of each fold and of all, and how honest probabilities are before and after.

    `logits`: the out-of-fold rows; `numbers`: class number by image_id, of images that may be learned from. A fold's
    images get the temperature of the other folds, so that no image is judged by a number that its own label helped to
    fit; images that no fold learned from get that of all. Unless `fitted`, every temperature is 1.
    """
    ids, folds, values = stacked(logits, codes)
    labels = numbers.loc[ids].to_numpy(np.int64)
    before = view_mean(values)
    after = before.copy()
    by_fold: dict[str, dict[str, float]] = {}
    for fold in np.unique(folds):
        own = folds == fold
        temperature = fit_temperature(values[~own], labels[~own], f"all folds but {fold}") if fitted else 1.0
        by_fold[str(fold)] = {"temperature": temperature, "fitted_on": int((~own).sum()), "images": int(own.sum())}
        after[own] = view_mean(values[own], temperature)
    return {
        "fitted": fitted,
        "temperature": fit_temperature(values, labels) if fitted else 1.0,
        "by_fold": by_fold,
        "images": len(ids),
        "views": values.shape[1],
        "binning": f"{BINS} bins of equal width, by the largest probability; [mean of it, share that is right, images]",
        "before": honesty(before, labels),
        "after": honesty(after, labels),
    }


def honesty(chances: Values, labels: Numbers) -> dict[str, Any]:
    """Return the negative log-likelihood of labels (n,) in nats and the calibration error of chances (n, K).

    Both are null, and there are no bins, where n is 0. Probabilities under 1e-300 count as that.
    """
    if len(labels) == 0:
        return {"negative_log_likelihood": None, "expected_calibration_error": None, "bins": []}
    own = np.maximum(chances[np.arange(len(labels)), labels], 1e-300)
    error, bins = calibration_error(chances, labels, BINS)
    return {"negative_log_likelihood": -float(np.log(own).mean()), "expected_calibration_error": error, "bins": bins}
