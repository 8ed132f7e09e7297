"""Noise, blur and light of a crop, measured together, and how far its light is from the usual."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.data.images import Pixels, cell_of, grey_of, mean_residual

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
SAMPLES = 32
"""The light is read off a grid of about this many pixels a side: it changes slowly."""
GLASS = 0.1
"""The brightest tenth of the surroundings counts as clear glass: red cells may cover the rest."""
STEEPEST = 0.01
"""Sharpness is read off the steepest hundredth of the steps between neighbouring pixels: the outlines."""
FEWEST = 10
"""Fewer samples than this tell nothing about the light of a half."""


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


@dataclass(frozen=True)
class Scores:
    """What is measured of one crop."""

    noise_score: float
    """Mean |g - median3x3(g)| over the cell, grey levels 0..255."""
    surroundings_noise: float
    """The same over everything but the cell."""
    blur_score: float
    """0 (sharp) .. 1 (blurred), unitless."""
    background_level: float
    """Grey level of clear glass, 0..255."""
    background_gradient: float
    """Change of that level across the crop, grey levels, 0 .. 510 * sqrt(2)."""
    background_red: float
    """Red less green of clear glass, grey levels, -255..255."""
    background_blue: float
    """Blue less green of clear glass, grey levels, -255..255."""


def measure(crop: Pixels, mask: Pixels) -> Scores:
    """Return all scores of a crop.

    Parameters: crop (H, W, 3) uint8 RGB; mask (H, W) uint8, BACKGROUND outside the cell. Where the cell or its
    surroundings are empty, the whole crop is measured in their place.
    """
    grey = grey_of(crop)
    smooth, cell = smoothed(grey), cell_of(mask)
    level, gradient, red, blue = background(crop, smooth, cell)
    return Scores(
        noise_score=mean_residual(grey, smooth, cell),
        surroundings_noise=mean_residual(grey, smooth, 1 - cell),
        blur_score=blur_score(smooth),
        background_level=level,
        background_gradient=gradient,
        background_red=red,
        background_blue=blue,
    )


def smoothed(grey: Pixels) -> Pixels:
    """Return the 3x3 median of grey levels (H, W) uint8."""
    return np.asarray(cv2.medianBlur(grey, 3), np.uint8)


def sampled(pixels: Pixels) -> Pixels:
    """Return a grid of about SAMPLES x SAMPLES of the pixels (H, W) or (H, W, 3), as a copy."""
    step = max(1, min(pixels.shape[:2]) // SAMPLES)
    return np.ascontiguousarray(pixels[::step, ::step])


def blur_score(smooth: Pixels) -> float:
    """Return 1 - e / c, clipped to 0..1: how far outlines are from taking a single pixel; 1 without contrast.

    e is the 99th percentile of the steps between neighbouring pixels (of the two directions the larger), c the
    contrast, from the 2nd to the 98th percentile of the grey levels. Being a ratio, the score depends neither on
    brightness nor on contrast; it does depend on the size of a pixel.

    Parameters: smooth (H, W) uint8, median-filtered grey levels, so that noise does not pass for sharpness.
    """
    samples = sampled(smooth).ravel()
    low, high = round(0.02 * (samples.size - 1)), round(0.98 * (samples.size - 1))
    ordered = np.partition(samples, (low, high))
    contrast = float(ordered[high]) - float(ordered[low])
    if min(smooth.shape) < 2 or contrast <= 0:
        return 1.0
    down, across = cv2.absdiff(smooth[1:, 1:], smooth[:-1, 1:]), cv2.absdiff(smooth[1:, 1:], smooth[1:, :-1])
    steepest = percentile(np.asarray(cv2.max(down, across), np.uint8), 1 - STEEPEST)
    return min(1.0, max(0.0, 1 - steepest / contrast))


def percentile(values: Pixels, share: float) -> float:
    """Return the grey level below which a share of the pixels lies, 0..255, interpolated between whole levels.

    It is found by halving: eight comparisons of whole images cost a quarter of one histogram.
    """
    wanted = share * values.size
    low, high, below_low, below_high = 0, 256, 0, values.size
    while high - low > 1:
        middle = (low + high) // 2
        below = values.size - cv2.countNonZero(cv2.threshold(values, middle - 1, 1, cv2.THRESH_BINARY)[1])
        if below > wanted:
            high, below_high = middle, below
        else:
            low, below_low = middle, below
    return min(255.0, low + (wanted - below_low) / max(1, below_high - below_low))


def background(crop: Pixels, smooth: Pixels, cell: Pixels) -> tuple[float, float, float, float]:
    """Return level, gradient, red less green, and blue less green of clear glass, in grey levels.

    The level is the 90th percentile of the surroundings; the gradient is twice the difference of the levels of
    opposite halves (their middles are half a side apart), the two directions added as vectors; the colour is the mean
    over the surroundings at or above the level.
    """
    grey, outside = sampled(smooth), sampled(cell) == 0
    if not outside.any():
        outside = np.ones_like(outside)
    level = _glass(grey[outside])
    glass = ((grey >= level) & outside).view(np.uint8)
    red, green, blue, _ = cv2.mean(sampled(crop), glass)
    rows, cols = grey.shape[0] // 2, grey.shape[1] // 2
    halves = [(slice(rows), slice(None)), (slice(-rows, None), slice(None)), (slice(None), slice(cols)),
              (slice(None), slice(-cols, None))]  # fmt: skip
    levels = [_glass(grey[half][outside[half]], level) for half in halves] if min(rows, cols) else [level] * 4
    gradient = 2 * float(np.hypot(levels[1] - levels[0], levels[3] - levels[2]))
    return level, gradient, red - green, blue - green


def _glass(values: Pixels, otherwise: float | None = None) -> float:
    """Return the level of the brightest tenth, or `otherwise`, where it is given, of too few values."""
    if otherwise is not None and values.size < FEWEST:
        return otherwise
    place = int((1 - GLASS) * (values.size - 1))
    return float(np.partition(values, place)[place])
