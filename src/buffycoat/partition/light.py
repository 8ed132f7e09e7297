"""How unusual a crop's light is: the distance of its background from that of the training rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from buffycoat.errors import InputError

Floats = npt.NDArray[np.float64]
Usual = dict[str, dict[str, float]]
"""Per measure of `comparable`, its `median` and `spread`."""

LEAST_SPREADS = {"darkness": 2.0, "whiteness": 0.2, "unevenness": 0.3, "red": 4.0, "blue": 4.0}
"""Least spread of each measure, on its own scale; smaller changes cannot be seen."""
ONE_SIDED = ("darkness", "whiteness", "unevenness")
"""Measures that are unusual only above their median."""
NEAR_WHITE = 4.0
"""Added to the distances of a level from black and from white, grey levels: the last few steps are chance."""
EVEN = 2.0
"""Added to gradients before their logarithm is taken, grey levels: steps of one or two levels are chance."""


def comparable(frame: pd.DataFrame) -> dict[str, Floats]:
    """Return the measures of light, (n,) each, on scales on which deviations can be compared.

    darkness is 255 - level. whiteness is log((level + 4) / (259 - level)): levels end at white, so from light glass a
    step up means more than a step down. unevenness is log(gradient + 2). red and blue are background_red and
    background_blue.
    """
    level = frame["background_level"].to_numpy(np.float64)
    return {
        "darkness": 255 - level,
        "whiteness": np.log((level + NEAR_WHITE) / (255 + NEAR_WHITE - level)),
        "unevenness": np.log(frame["background_gradient"].to_numpy(np.float64) + EVEN),
        "red": frame["background_red"].to_numpy(np.float64),
        "blue": frame["background_blue"].to_numpy(np.float64),
    }


def usual_light(frame: pd.DataFrame) -> Usual:
    """Return the median and the robust standard deviation (1.4826 * median distance from it) of each measure.

    Parameters: frame, the training rows with the columns background_level, background_gradient, background_red and
    background_blue. Raises InputError where there is none. Well under half of the rows may be badly lit.
    """
    if frame.empty:
        raise InputError("partition.flag_noisy: there is no training row to learn the usual light from")
    usual = {}
    for name, values in comparable(frame).items():
        median = float(np.median(values))
        spread = 1.4826 * float(np.median(np.abs(values - median)))
        usual[name] = {"median": median, "spread": max(spread, LEAST_SPREADS[name])}
    return usual


def light_deviation(frame: pd.DataFrame, usual: Usual) -> Floats:
    """Return the largest distance of a measure from its usual value, (n,) >= 0, in robust standard deviations."""
    distances = []
    for name, values in comparable(frame).items():
        distance = (values - usual[name]["median"]) / usual[name]["spread"]
        distances.append(distance if name in ONE_SIDED else np.abs(distance))
    deviation: Floats = np.maximum(np.max(distances, axis=0), 0.0)
    return deviation
