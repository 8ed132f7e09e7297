"""Hand-made cells and rules that the tests of this folder share."""

from __future__ import annotations

from typing import Any

import numpy as np

from buffycoat.refine.algorithm import Evidence
from buffycoat.refine.rules import BOX_FEATURES, DISTANCE_FEATURES, LIKENESS_FEATURES, FittedRule, Reference
from buffycoat.refine.settings import PLASMA_CELL, PROLYMPHOCYTE, FitRules

CLASSES = ("LY", "PC", "PLY", "SNE", "VLY")
FEATURES = ("spikiness", *dict.fromkeys((*BOX_FEATURES, *DISTANCE_FEATURES, *LIKENESS_FEATURES[2:])))
PLAIN = dict.fromkeys(FEATURES, 0.0) | {"spikiness": 1.5}


def given(**changes: Any) -> FitRules:
    """The paper's rules with their own thresholds; on where they help, unless changed."""
    return FitRules(**{"rules": (PROLYMPHOCYTE, PLASMA_CELL), "thresholds": "given", **changes})


def reference(**changes: Any) -> Reference:
    """A reference at 0 with unit covariance: the Mahalanobis distance is the Euclidean one."""
    standard: dict[str, Any] = {
        "cells": 20,
        "cells_of": "host",
        "own_share": 0.5,
        "mean": dict.fromkeys(DISTANCE_FEATURES, 0.0),
        "scale": dict.fromkeys(DISTANCE_FEATURES, 1.0),
        "covariance": tuple(tuple(row) for row in np.eye(6).tolist()),
        "max_distance": 2.0,
        "max_distance_from": "cross_fitted",
        "box": dict.fromkeys(BOX_FEATURES, (-1.0, 1.5)),
    }
    return Reference(**{**standard, **changes})


PLY = FittedRule(rule=PROLYMPHOCYTE, state="on", reason="")
PC = FittedRule(
    rule=PLASMA_CELL,
    state="on",
    reason="",
    references={"LY": reference(), "VLY": reference(max_distance=1.0, box=dict.fromkeys(BOX_FEATURES, (-9.0, 9.0)))},
)


def cell(p: dict[str, float], s: dict[str, float] | None = None, **features: float) -> Evidence:
    """One cell: probabilities that are not named are 0; `s` None is a missing embedding."""
    return Evidence(
        classes=CLASSES,
        p=np.array([[p.get(code, 0.0) for code in CLASSES]]),
        s=np.array([[np.nan if s is None else s.get(code, 0.0) for code in CLASSES]]),
        features={name: np.array([value]) for name, value in {**PLAIN, **features}.items()},
    )


def together(cells: list[Evidence]) -> Evidence:
    """Several cells in one."""
    return Evidence(
        classes=CLASSES,
        p=np.concatenate([one.p for one in cells]),
        s=np.concatenate([one.s for one in cells]),
        features={name: np.concatenate([one.features[name] for one in cells]) for name in FEATURES},
    )
