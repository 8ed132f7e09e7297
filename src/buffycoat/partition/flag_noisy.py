"""Step `flag_noisy`: the thresholds, from training rows alone, and the verdicts on every crop."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from buffycoat.core.errors import InputError
from buffycoat.core.files import write_json
from buffycoat.core.steps import run
from buffycoat.data.tables.index import IMAGES, decodable
from buffycoat.data.tables.partition import NOISE, NOISE_SCORES
from buffycoat.data.tables.schema import require_same_keys
from buffycoat.partition.scores import Usual, light_deviation, usual_light
from buffycoat.partition.settings import FlagNoisy

log = logging.getLogger("buffycoat")
Scores = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

BIN = 0.02
"""Width of the bins in which logarithms of scores are counted."""
LEAST_SHARE = 0.2
"""A peak that holds fewer of the rows is not taken for the clean ones."""
LEAST_SPREAD = 0.05
"""Least robust standard deviation of the logarithms: scores of one value have none."""
SMALLEST = 1e-3
"""Scores below count as this: a logarithm needs more than nothing."""
SHARPEST = 1e-3
"""Least sharpness (1 - blur score) that is told from none."""
BLUR_SPREAD = 3.5
"""A crop is blurred when the logarithm of 1 / (1 - blur score) lies this many robust standard deviations above that of
clean crops. Ours; it is also the bound of Iglewicz and Hoaglin (1993, How to Detect and Handle Outliers)."""
LIGHT_SPREAD = 3.5
"""A crop is badly lit when level, gradient or colour of its background lies this many robust standard deviations from
the usual one; the same bound."""


def fit_threshold(scores: Scores, spread: float, largest: bool = False) -> float:
    """Return centre * exp(spread * s) of the clean crops' scores, s a robust standard deviation of their logarithms.

    Degradation adds to the score, so the clean crops are the lowest peak of the logarithms' histogram that holds a
    fifth of the rows; there may be more degraded crops than clean ones. Their centre is the peak's place. Above it
    lie degraded crops too, below it none, so s is taken from the scores below, mirrored. Rows of one peak are all
    taken for clean, even if all are degraded: nothing in the scores tells. With `largest`, the peak with most rows is
    taken instead of the lowest, for rows some of which have too low a score.

    Parameters: scores (n,) >= 0, n >= 1. Returns a value in the scores' unit.
    """
    logs = np.log(np.maximum(scores, SMALLEST))
    centre, border, _ = clean_peak(logs, largest)
    below = centre - logs[(logs <= centre) & (logs >= border)]
    s = 1.4826 * float(np.median(below)) if below.size else 0.0
    return float(np.exp(centre + spread * max(s, LEAST_SPREAD)))


def clean_peak(logs: Scores, largest: bool = False) -> tuple[float, float, float]:
    """Return place, lower and upper border of the lowest peak that holds LEAST_SHARE of the values, or of the largest.

    Peaks count as two where the density between them falls to half of the lower one. Where no peak holds that share,
    the largest is taken.
    """
    density, grid = _density(logs)
    peaks, _ = find_peaks(np.log(density + 1e-9 * density.max()), prominence=np.log(2))
    valleys = [low + int(np.argmin(density[low:high])) for low, high in zip(peaks[:-1], peaks[1:], strict=True)]
    borders = np.concatenate([[grid[0]], grid[valleys], [grid[-1]]])
    shares = np.histogram(logs, borders)[0] / logs.size
    large = np.flatnonzero(shares >= LEAST_SHARE)
    chosen = int(large[0]) if large.size and not largest else int(np.argmax(shares))
    return float(grid[peaks[chosen]]), float(borders[chosen]), float(borders[chosen + 1])


def _density(logs: Scores) -> tuple[Scores, Scores]:
    """Return a smooth histogram of the values and the middles of its bins; it is zero at both ends."""
    # A tenth for a thousand rows, more for fewer, as kernel estimates widen.
    width = 0.1 * (1000 / min(1000, logs.size)) ** 0.2
    margin = 5 * width
    bins = int(np.ceil((np.ptp(logs) + 2 * margin) / BIN))
    edges = logs.min() - margin + BIN * np.arange(bins + 1)
    counts = np.histogram(logs, edges)[0].astype(np.float64)
    return gaussian_filter1d(counts, width / BIN, mode="constant"), (edges[:-1] + edges[1:]) / 2


def histogram_of(scores: Scores, bins: int = 60, logarithmic: bool = True) -> dict[str, list[float] | list[int]]:
    """Return `edges` (bins + 1) and `counts` (bins) of the scores, the bins being equally wide or so in logarithms."""
    values = np.log10(np.maximum(scores, 1e-2)) if logarithmic else scores
    counts, edges = np.histogram(values, bins)
    return {
        "edges": [float(10**edge if logarithmic else edge) for edge in edges],
        "counts": [int(count) for count in counts],
    }


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

    Parameters: noise and blur (n,) of the training rows. Raises InputError where n is 0.
    """
    if noise.size == 0:
        raise InputError("partition.flag_noisy: no training row with an image to fit the thresholds on")
    fits_noise = settings.threshold == "fitted"
    softness, first = 1 / np.maximum(1 - blur, SHARPEST), settings.level
    if fits_noise:
        first = min(first, fit_threshold(noise, settings.spread, largest=True))
    quiet = noise < first
    blur_level = 1 - 1 / fit_threshold(softness[quiet] if quiet.any() else softness, BLUR_SPREAD)
    sharp = blur < blur_level
    level = settings.level
    if fits_noise:
        level = min(level, fit_threshold(noise[sharp] if sharp.any() else noise, settings.spread))
    return level, blur_level


@dataclass(frozen=True)
class Levels:
    """From where on a crop is noisy, blurred or badly lit."""

    noise_over: str
    """What noise is measured over: 'cell' or 'field'."""
    noise: float
    """Least noise of a noisy crop, grey levels."""
    blur: float
    """Least blur score of a blurred crop, 0 (sharp) .. 1."""
    light: float
    """Least deviation from the usual light of a badly lit crop, robust standard deviations."""
    usual: Usual
    """Median and spread of each measure of the background in well-lit crops, grey levels."""


def levels_of(summary: dict[str, Any]) -> Levels:
    """Return the levels of a summary that `summary_of` made; raises KeyError or TypeError where it is none."""
    light = summary["light"]
    return Levels(summary["measured_over"], summary["level"], summary["blur"]["level"], light["level"], light["usual"])


def fit(frame: pd.DataFrame, training: Bools, settings: FlagNoisy) -> Levels:
    """Return the levels that the settings fix or that the training rows give.

    Parameters: frame, the table of noise scores; training (n,), the rows that may be fitted on. Raises InputError
    where there is no training row.
    """
    noise, blur = compared_noise(frame, settings.noise_over), frame["blur_score"].to_numpy(np.float64)
    level, blur_level = fit_levels(noise[training], blur[training], settings)
    sound = training & (noise < level) & (blur < blur_level)
    usual = usual_light(frame[sound if sound.any() else training])
    return Levels(settings.noise_over, level, blur_level, LIGHT_SPREAD, usual)


def summary_of(flagged: pd.DataFrame, levels: Levels, method: str, fitted_on: int) -> dict[str, Any]:
    """Return what threshold.json holds: the levels, the counts of flagged crops, and histograms of the scores.

    Parameters: flagged, the table of noise; method, 'fixed' or 'fitted'; fitted_on, the rows that were fitted on.
    """
    noise, blur = compared_noise(flagged, levels.noise_over), flagged["blur_score"].to_numpy(np.float64)
    return {
        "method": method,
        "measured_over": levels.noise_over,
        "level": levels.noise,
        "unit": "grey levels",
        "fitted_on": fitted_on,
        "noisy": int(flagged["noisy"].sum()),
        "crops": len(flagged),
        "histogram": histogram_of(noise),
        "blur": {
            "level": levels.blur,
            "blurred": int(flagged["blurred"].sum()),
            "histogram": histogram_of(blur, logarithmic=False),
        },
        "light": {
            "level": levels.light,
            "badly_lit": int(flagged["badly_lit"].sum()),
            "usual": levels.usual,
            "histogram": histogram_of(flagged["light_deviation"].to_numpy(np.float64), logarithmic=False),
        },
    }


def apply(scores: pd.DataFrame, levels: Levels) -> pd.DataFrame:
    """Return the rows of noise scores with light_deviation, noisy, blurred and badly_lit (table NOISE)."""
    noise, blur = compared_noise(scores, levels.noise_over), scores["blur_score"].to_numpy(np.float64)
    deviation = light_deviation(scores, levels.usual)
    return scores.assign(
        light_deviation=deviation,
        noisy=noise >= levels.noise,
        blurred=blur >= levels.blur,
        badly_lit=deviation >= levels.light,
    )


def judge(scores: pd.DataFrame, training: Bools, settings: FlagNoisy) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the flagged rows (table NOISE), and the levels with counts and histograms (threshold.json).

    Parameters: scores, the table of noise scores; training (n,), the rows that may be fitted on. Raises InputError
    where there is no training row.
    """
    levels = fit(scores, training, settings)
    flagged = apply(scores, levels)
    fitted_on = int(training.sum()) if settings.threshold == "fitted" else 0
    return flagged, summary_of(flagged, levels, settings.threshold, fitted_on)


def flag_noisy(*, images: Path, scores: Path, noise: Path, threshold: Path, settings: FlagNoisy) -> None:
    """Fit or take the thresholds, flag the crops, and store the thresholds with their histograms."""
    rows = decodable(IMAGES.read(images))
    frame = NOISE_SCORES.read(scores)
    require_same_keys(frame["image_id"], rows["image_id"], str(scores))
    training = frame["image_id"].isin(set(rows.loc[rows["role"] == "train", "image_id"])).to_numpy()
    judged, summary = judge(frame, training, settings)
    log.info(
        "%d of %d noisy (from %.2f grey levels, %s), %d blurred, %d badly lit",
        summary["noisy"], summary["crops"], summary["level"], summary["method"],
        summary["blur"]["blurred"], summary["light"]["badly_lit"],
    )  # fmt: skip
    NOISE.write(judged, noise)
    write_json(summary, threshold)


if __name__ == "__main__":
    run(flag_noisy)
