"""The tables that the refinement reads, joined into arrays; what does not fit together is refused here."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.data.labels import clusters_of
from buffycoat.data.tables.classify import PROBABILITIES, read_probabilities
from buffycoat.data.tables.index import CLASSES, class_codes
from buffycoat.data.tables.measure import MORPHOLOGY
from buffycoat.data.tables.schema import require_same_keys
from buffycoat.refine.algorithm import Evidence
from buffycoat.refine.fitting import Training
from buffycoat.refine.gates import Flags

log = logging.getLogger("buffycoat")
NOT_FEATURES = ("image_id", "measured", "nucleus_from", "reason")


@dataclass(frozen=True)
class Inputs:
    """The tables that the evidence is taken from."""

    branch_a: pd.DataFrame
    """Table PROBABILITIES, a row per image."""
    branch_b: pd.DataFrame
    """Table PROBABILITIES; it may lack images."""
    morphology: pd.DataFrame
    """Table MORPHOLOGY, a row per image."""


def read_inputs(
    ids: pd.Series, codes: list[str], *, probabilities: Path, head_probabilities: Path, morphology: Path
) -> Inputs:
    """Read the tables; raises InputError where one is not exactly of the images `ids` and the classes `codes`.

    Only branch B may lack images (no embedding).
    """
    branch_a = read_probabilities(probabilities, codes)
    branch_b = read_probabilities(head_probabilities, codes)
    shapes = MORPHOLOGY.read(morphology)
    require_same_keys(branch_a["image_id"], ids, str(probabilities))
    require_same_keys(shapes["image_id"], ids, str(morphology))
    require_same_keys(pd.concat([branch_b["image_id"], ids]), ids, str(head_probabilities))
    return Inputs(branch_a, branch_b, shapes)


def evidence_of(ids: pd.Series, codes: list[str], inputs: Inputs) -> Evidence:
    """Return the evidence of the images `ids`, in their order; what branch B lacks becomes gaps."""
    branch_a, branch_b, shapes = (
        table.set_index("image_id") for table in (inputs.branch_a, inputs.branch_b, inputs.morphology)
    )
    features = shapes.loc[ids].drop(columns=[name for name in NOT_FEATURES if name in shapes])
    return Evidence(
        classes=tuple(codes),
        p=branch_a.loc[ids, codes].to_numpy(np.float64),
        s=branch_b.reindex(ids)[codes].to_numpy(np.float64),
        features={str(name): values.to_numpy(np.float64) for name, values in features.items()},
    )


def read_evidence(
    ids: pd.Series, *, classes: Path, probabilities: Path, head_probabilities: Path, morphology: Path
) -> Evidence:
    """Return the evidence of the images `ids`, in their order; raises InputError where a table is not exactly of them.

    Only branch B may lack images (no embedding): they become gaps.
    """
    codes = class_codes(CLASSES.read(classes))
    inputs = read_inputs(
        ids, codes, probabilities=probabilities, head_probabilities=head_probabilities, morphology=morphology
    )
    return evidence_of(ids, codes, inputs)


def seen_in_training(path: Path, ids: pd.Series) -> list[str]:
    """Return those of the training images `ids` that a table's model saw, so that nothing may be fitted on them."""
    frame = PROBABILITIES.read(path).set_index("image_id")
    return [str(name) for name in frame.index[frame.index.isin(ids) & (frame["source"] != "out_of_fold")]]


def require_out_of_fold(path: Path, ids: pd.Series) -> None:
    """Raise InputError where a training image was predicted by a model that saw it: nothing may be fitted on that."""
    seen = seen_in_training(path, ids)
    if seen:
        raise InputError(
            f"{path}: {len(seen)} training images are not predicted out of fold, for instance {seen[0]!r};"
            " run its stage again, or set refine.fit_rules.switch to 'always'"
        )


def training_cells(ids: pd.Series, evidence: Evidence, rows: pd.DataFrame) -> tuple[Training, Flags]:
    """Return the training cells among the images `ids`, whose evidence is in their order, and which they are.

    `rows` are those that may be learned from, as `data.labels.learned_rows` gives them.
    """
    chosen = ids.isin(rows["image_id"]).to_numpy(bool)
    labels, own = rows["label"].to_numpy(dtype=np.str_), rows["fold"].to_numpy(np.int64)
    return Training(evidence.rows(chosen), labels, own, clusters_of(rows)[0]), chosen
