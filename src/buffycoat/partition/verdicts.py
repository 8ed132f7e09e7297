"""From scores to verdicts: what is compared, with which threshold, fitted on which rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from buffycoat.errors import InputError
from buffycoat.partition.light import Usual, light_deviation, usual_light
from buffycoat.partition.settings import FlagNoisy
from buffycoat.partition.threshold import Scores, fit_threshold, histogram_of

Bools = npt.NDArray[np.bool_]

SHARPEST = 1e-3
"""Least sharpness (1 - blur score) that is told from none."""


def compared_noise(frame: pd.DataFrame, noise_over: str) -> Scores:
    """Return the noise that the threshold is compared with, (n,), grey levels.

    `cell`: the noise score. `field`: the geometric mean of it and the noise of the surroundings: a camera's noise is
    everywhere, while the grain of a cell is in the cell and crowded red cells are around it.
    """
    cell = frame["noise_score"].to_numpy(np.float64)
    if noise_over == "cell":
        return cell
    field: Scores = np.sqrt(cell * frame["surroundings_noise"].to_numpy(np.float64))
    return field


def fit_levels(noise: Scores, blur: Scores, settings: FlagNoisy) -> tuple[float, float]:
    """Return the levels from which the noise and the blur score of a training row count as noisy and as blurred.

    Blurred rows have less noise than clean ones, noisy rows less blur, so neither may be taken for the clean ones. So
    rows noisier than the commonest are set aside first, then blur is fitted, then noise without the blurred rows. A
    fitted noise level is at most `settings.level`.

    Parameters: noise and blur (n,) of the training rows. Raises InputError where a level is to be fitted and n is 0.
    """
    fits_noise = settings.threshold == "fitted"
    if noise.size == 0 and (fits_noise or settings.blur_level is None):
        raise InputError("partition.flag_noisy: no training row to fit on: set threshold: fixed and blur_level")
    softness = 1 / np.maximum(1 - blur, SHARPEST)
    blur_level = settings.blur_level
    if blur_level is None:
        first = settings.level
        if fits_noise:
            first = min(first, fit_threshold(noise, settings.spread, largest=True))
        quiet = noise < first
        blur_level = 1 - 1 / fit_threshold(softness[quiet] if quiet.any() else softness, settings.blur_spread)
    sharp = blur < blur_level
    level = settings.level
    if fits_noise:
        level = min(level, fit_threshold(noise[sharp] if sharp.any() else noise, settings.spread))
    return level, blur_level


class Levels(NamedTuple):
    """From where on a crop is noisy, blurred or badly lit."""

    noise_over: str
    noise: float
    blur: float
    light: float
    usual: Usual


def levels_of(summary: dict[str, Any]) -> Levels:
    """Return the levels that `judge` has put into its summary."""
    light = summary["light"]
    return Levels(summary["measured_over"], summary["level"], summary["blur"]["level"], light["level"], light["usual"])


def flag(frame: pd.DataFrame, levels: Levels) -> pd.DataFrame:
    """Return the rows of a table of noise scores with light_deviation, noisy, blurred and badly_lit."""
    noise, blur = compared_noise(frame, levels.noise_over), frame["blur_score"].to_numpy(np.float64)
    deviation = light_deviation(frame, levels.usual)
    return frame.assign(
        light_deviation=deviation,
        noisy=noise >= levels.noise,
        blurred=blur >= levels.blur,
        badly_lit=deviation >= levels.light,
    )


def judge(frame: pd.DataFrame, training: Bools, settings: FlagNoisy) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the rows with light_deviation, noisy, blurred and badly_lit, and what was fitted.

    Parameters: frame, the table of noise scores; training (n,), the rows that may be fitted on.
    """
    noise, blur = compared_noise(frame, settings.noise_over), frame["blur_score"].to_numpy(np.float64)
    level, blur_level = fit_levels(noise[training], blur[training], settings)
    sound = training & (noise < level) & (blur < blur_level)
    usual = usual_light(frame[sound if sound.any() else training])
    flagged = flag(frame, Levels(settings.noise_over, level, blur_level, settings.light_spread, usual))
    fitted_on = int(training.sum()) if settings.threshold == "fitted" else 0
    summary = {
        "method": settings.threshold,
        "measured_over": settings.noise_over,
        "level": level,
        "unit": "grey levels",
        "fitted_on": fitted_on,
        "noisy": int(flagged["noisy"].sum()),
        "crops": len(frame),
        "histogram": histogram_of(noise),
        "blur": {
            "level": blur_level,
            "blurred": int(flagged["blurred"].sum()),
            "histogram": histogram_of(blur, logarithmic=False),
        },
        "light": {
            "level": settings.light_spread,
            "badly_lit": int(flagged["badly_lit"].sum()),
            "usual": usual,
            "histogram": histogram_of(flagged["light_deviation"].to_numpy(np.float64), logarithmic=False),
        },
    }
    return flagged, summary
