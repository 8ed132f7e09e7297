"""Step `flag_noisy`: the threshold, from training rows alone, and the verdict on every crop."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from buffycoat.files import write_json
from buffycoat.partition.settings import FlagNoisy
from buffycoat.partition.threshold import fit_threshold, histogram_of
from buffycoat.steps import run
from buffycoat.tables.images import IMAGES, decodable
from buffycoat.tables.noise import NOISE
from buffycoat.tables.noise_scores import NOISE_SCORES
from buffycoat.tables.schema import require_same_keys

log = logging.getLogger("buffycoat")


def flag_noisy(*, images: Path, scores: Path, noise: Path, threshold: Path, settings: FlagNoisy) -> None:
    """Fit or take the threshold, flag the noisy crops, and store the threshold with its histogram."""
    rows = decodable(IMAGES.read(images))
    frame = NOISE_SCORES.read(scores)
    require_same_keys(frame["image_id"], rows["image_id"], str(scores))
    training = frame["image_id"].isin(set(rows.loc[rows["role"] == "train", "image_id"]))
    fitted_on = frame.loc[training, "noise_score"].to_numpy(np.float64)
    level = settings.level if settings.threshold == "fixed" else fit_threshold(fitted_on, settings.spread)
    frame["noisy"] = frame["noise_score"] >= level
    edges, counts = histogram_of(frame["noise_score"].to_numpy(np.float64))
    log.info("noisy from %.2f grey levels (%s): %d of %d", level, settings.threshold, frame["noisy"].sum(), len(frame))
    NOISE.write(frame, noise)
    write_json(
        {
            "method": settings.threshold,
            "level": level,
            "unit": "grey levels",
            "fitted_on": len(fitted_on) if settings.threshold == "fitted" else 0,
            "noisy": int(frame["noisy"].sum()),
            "crops": len(frame),
            "histogram": {"edges": edges, "counts": counts},
        },
        threshold,
    )


if __name__ == "__main__":
    run(flag_noisy)
