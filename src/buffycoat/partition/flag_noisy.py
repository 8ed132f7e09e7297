"""Step `flag_noisy`: the thresholds, from training rows alone, and the verdicts on every crop."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from buffycoat.core.files import write_json
from buffycoat.core.steps import run
from buffycoat.data.tables.index import IMAGES, decodable
from buffycoat.data.tables.partition import NOISE, NOISE_SCORES
from buffycoat.data.tables.schema import require_same_keys
from buffycoat.partition.scores import light_deviation
from buffycoat.partition.settings import FlagNoisy
from buffycoat.partition.verdicts import Bools, Levels, compared_noise, fit, summary_of

log = logging.getLogger("buffycoat")


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
    where something is to be fitted and there is no training row.
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
        "noisy from %.2f grey levels (%s): %d of %d; %d blurred, %d badly lit",
        summary["level"], summary["method"], summary["noisy"], summary["crops"],
        summary["blur"]["blurred"], summary["light"]["badly_lit"],
    )  # fmt: skip
    NOISE.write(judged, noise)
    write_json(summary, threshold)


if __name__ == "__main__":
    run(flag_noisy)
