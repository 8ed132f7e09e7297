"""The training cells among those that were predicted: the only ones that anything may be fitted on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from buffycoat.refine.algorithm import Evidence
from buffycoat.refine.fitting import Training
from buffycoat.refine.gates import Flags
from buffycoat.tables.folds import FOLDS
from buffycoat.tables.images import trainable
from buffycoat.tables.schema import require_same_keys


def patients_of(rows: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return the number of each row's patient, (n,); a row without one counts as one of its own."""
    names = ("patient " + rows["group"].astype("str")).where(rows["group"].notna(), "image " + rows["image_id"])
    return np.asarray(pd.factorize(names)[0], np.int64)


def training_cells(seen: pd.DataFrame, evidence: Evidence, folds: Path) -> tuple[Training, Flags]:
    """Return the training cells of the decodable images `seen`, whose evidence is in their order, and which they are.

    Raises InputError where the folds are not exactly theirs.
    """
    rows = trainable(seen)
    fold_of = FOLDS.read(folds).set_index("image_id")["fold"]
    require_same_keys(fold_of.index.to_series(), rows["image_id"], str(folds))
    chosen = seen["image_id"].isin(rows["image_id"]).to_numpy(bool)
    labels, own = rows["label"].to_numpy(dtype=np.str_), fold_of.loc[rows["image_id"]].to_numpy(np.int64)
    return Training(evidence.rows(chosen), labels, own, patients_of(rows)), chosen
