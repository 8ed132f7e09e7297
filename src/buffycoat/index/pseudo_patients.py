"""Groups recovered from the order of labelled IDs: WBCBench lists patient by patient, and by class inside a patient.

Used only to keep one patient's cells in one fold; neither the groups nor the order are ever shown to a model, and test
images are never touched.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

OUT_OF_ORDER_COST = 1.0
"""Cost of a label that stands before its predecessor in the alphabet inside one patient."""
NEW_PATIENT_COST = 8.0
"""Cost of starting a new patient. Both costs gave 223 groups for the 222 training patients of WBCBench."""


def split_into_runs(labels: list[str]) -> list[int]:
    """Return the group of each label, from 0, so that the total cost of the division is least.

    Inside a patient the classes are meant to run in alphabetical order. The dynamic programme keeps, for every class
    that could be the current highest of the running patient, the least cost of a division so far: O(n K) for n labels
    of K classes. A label below the current highest costs OUT_OF_ORDER_COST, a new patient NEW_PATIENT_COST.
    """
    if not labels:
        return []
    ranks = np.unique(np.array(labels), return_inverse=True)[1]
    kinds, n = int(ranks.max()) + 1, len(labels)
    cost = np.full(kinds, np.inf)
    cost[ranks[0]] = 0.0
    came_from = np.zeros((n, kinds), np.int32)
    started = np.zeros((n, kinds), bool)
    for i in range(1, n):
        cost, came_from[i], started[i] = _advance(cost, int(ranks[i]))
    return _walk_back(cost, came_from, started)


def pseudo_groups(frame: pd.DataFrame) -> pd.Series:
    """Return a group per row, recovered from the order of the labelled training rows of each part; null elsewhere."""
    groups = pd.Series([None] * len(frame), index=frame.index, dtype=object)
    labelled = frame[(frame["role"] == "train") & frame["label"].notna()]
    for part, rows in labelled.groupby("split", sort=False, dropna=False):
        ordered = rows.sort_values("image_id")
        runs = split_into_runs(ordered["label"].tolist())
        groups.loc[ordered.index] = [f"{part}-{number:04d}" for number in runs]
    return groups


def _advance(cost: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the costs after one more label, the state each came from, and whether a patient began."""
    kinds = len(cost)
    # Below or at the label's rank: the label becomes the highest. Above it: the label is out of order.
    new = np.where(np.arange(kinds) > rank, cost + OUT_OF_ORDER_COST, np.inf)
    source = np.arange(kinds, dtype=np.int32)
    begun = np.zeros(kinds, bool)
    best_below = int(np.argmin(cost[: rank + 1]))
    best = int(np.argmin(cost))
    if cost[best] + NEW_PATIENT_COST < cost[best_below]:
        new[rank], source[rank], begun[rank] = cost[best] + NEW_PATIENT_COST, best, True
    else:
        new[rank], source[rank] = cost[best_below], best_below
    return new, source, begun


def _walk_back(cost: np.ndarray, came_from: np.ndarray, started: np.ndarray) -> list[int]:
    state = int(np.argmin(cost))
    starts = np.zeros(len(came_from), bool)
    for i in range(len(came_from) - 1, 0, -1):
        starts[i] = started[i, state]
        state = int(came_from[i, state])
    return [int(group) for group in np.cumsum(starts)]
