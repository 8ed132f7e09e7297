"""How unusual a crop's light is: the distance of its background from that of the training rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from buffycoat.errors import InputError

Floats = npt.NDArray[np.float64]
Usual = dict[str, dict[str, float]]
"""Per measure, its `median` and `spread`; both are of logarithms for the gradient."""

LEAST_SPREADS = {
    "background_level": 2.0,
    "background_gradient": 0.3,
    "background_red": 4.0,
    "background_blue": 4.0,
}
"""Least spread of each measure, grey levels (of the gradient: of its logarithm); smaller changes cannot be seen."""
EVEN = 2.0
"""Added to gradients before their logarithm is taken, grey levels: steps of one or two levels are chance."""


def _comparable(frame: pd.DataFrame) -> dict[str, Floats]:
    measures = {name: frame[name].to_numpy(np.float64) for name in LEAST_SPREADS}
    measures["background_gradient"] = np.log(measures["background_gradient"] + EVEN)
    return measures


def usual_light(frame: pd.DataFrame) -> Usual:
    """Return the median and the robust standard deviation (1.4826 * median distance from it) of each measure.

    Parameters: frame, the training rows with the columns background_level, background_gradient, background_red and
    background_blue. Raises InputError where there is none. Up to half of the rows may be badly lit.
    """
    if frame.empty:
        raise InputError("partition.flag_noisy: there is no training row to learn the usual light from")
    usual = {}
    for name, values in _comparable(frame).items():
        median = float(np.median(values))
        spread = 1.4826 * float(np.median(np.abs(values - median)))
        usual[name] = {"median": median, "spread": max(spread, LEAST_SPREADS[name])}
    return usual


def light_deviation(frame: pd.DataFrame, usual: Usual) -> Floats:
    """Return the largest distance of a measure from its usual value, (n,) >= 0, in robust standard deviations.

    Level and colour may lie on either side; a gradient counts only above the usual one.
    """
    distances = []
    for name, values in _comparable(frame).items():
        distance = (values - usual[name]["median"]) / usual[name]["spread"]
        distances.append(distance if name == "background_gradient" else np.abs(distance))
    deviation: Floats = np.maximum(np.max(distances, axis=0), 0.0)
    return deviation
