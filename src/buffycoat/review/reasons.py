"""From which values on an image is suspect, and the sentence that says so."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from buffycoat.review.settings import FindSuspects

MIN_DISAGREEMENT = 0.8
"""Suspect if the Jensen-Shannon divergence of the branches reaches this, bits. 0.8: both are about 97 % sure, each of
another class (0.5: about 89 %)."""
KINDS = ("label", "no_cell", "several_cells", "probability", "disagreement", "energy", "distance")
"""Kinds of suspicion, in the order in which a sentence names them: from what a person can settle to what is odd."""


def suspicions(frame: pd.DataFrame, settings: FindSuspects) -> pd.DataFrame:
    """Return one Boolean column per kind for the rows of the table; a gap raises no suspicion."""
    return pd.DataFrame(
        {
            "label": frame["contradicted"].astype(bool),
            "no_cell": ~frame["cell_found"].astype(bool),
            "several_cells": frame["cells"] > 1,
            "probability": frame["probability"] <= frame["sure_above"],
            "disagreement": frame["disagreement"] >= MIN_DISAGREEMENT,
            "energy": frame["energy_quantile"] >= settings.quantile,
            "distance": frame["feature_distance_quantile"] >= settings.quantile,
        }
    )


def _share(value: float) -> str:
    """Return 0.9934 as '99.3 %'; what is short of 1 never reads 100 %."""
    return f"{math.floor(value * 1000 + 1e-9) / 10:.1f} %"


def _of_label(row: dict[Any, Any]) -> str:
    both = row["branch_a_label"] == row["branch_b_label"] == row["likely_label"]
    speaker = f"both branches say {row['likely_label']}" if both else f"{row['likely_label']} is likelier"
    place = f"doubt {row['label_doubt']:.2f}, rank {int(row['label_rank'])} of its class"
    return f"labelled {row['given_label']} but {speaker} ({place})"


def _of_no_cell(row: dict[Any, Any]) -> str:
    return "no white cell was found: what lies in the middle was labelled"


def _of_several_cells(row: dict[Any, Any]) -> str:
    return f"{int(row['cells'])} white cells were found, and one of them was labelled"


def _of_probability(row: dict[Any, Any]) -> str:
    return (
        f"branch A is unsure: {row['branch_a_label']} has a probability of {row['probability']:.2f}"
        f" (suspect up to {row['sure_above']:.2f})"
    )


def _of_disagreement(row: dict[Any, Any]) -> str:
    return (
        f"branch A says {row['branch_a_label']}, branch B {row['branch_b_label']}"
        f" (divergence {row['disagreement']:.2f} of 1)"
    )


def _of_energy(row: dict[Any, Any]) -> str:
    return f"branch A finds less evidence for any class than in {_share(row['energy_quantile'])} of the training images"


def _of_distance(row: dict[Any, Any]) -> str:
    share = _share(row["feature_distance_quantile"])
    return f"it lies farther from every class ({row['feature_distance']:.1f} SD) than {share} of the training images"


CLAUSES: dict[str, Callable[[dict[Any, Any]], str]] = {
    "label": _of_label,
    "no_cell": _of_no_cell,
    "several_cells": _of_several_cells,
    "probability": _of_probability,
    "disagreement": _of_disagreement,
    "energy": _of_energy,
    "distance": _of_distance,
}


def sentence(row: dict[Any, Any], kinds: list[str]) -> str:
    """Return why a row is suspect, as one sentence; empty without a kind."""
    text = "; ".join(CLAUSES[kind](row) for kind in kinds)
    return text[:1].upper() + text[1:] + "." * bool(text)


def with_reasons(frame: pd.DataFrame, settings: FindSuspects) -> pd.DataFrame:
    """Return the table with the columns suspect, kinds and reason."""
    raised = suspicions(frame, settings)
    kinds = [[kind for kind in KINDS if row[kind]] for row in raised.to_dict("records")]
    rows = frame.to_dict("records")
    return frame.assign(
        suspect=raised.any(axis=1).to_numpy(bool),
        kinds=[",".join(names) for names in kinds],
        reason=[sentence(row, names) for row, names in zip(rows, kinds, strict=True)],
    )
