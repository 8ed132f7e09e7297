"""Step `flag_noisy`: the thresholds, from training rows alone, and the verdicts on every crop."""

from __future__ import annotations

import logging
from pathlib import Path

from buffycoat.core.files import write_json
from buffycoat.core.steps import run
from buffycoat.data.tables.index import IMAGES, decodable
from buffycoat.data.tables.partition import NOISE, NOISE_SCORES
from buffycoat.data.tables.schema import require_same_keys
from buffycoat.partition.settings import FlagNoisy
from buffycoat.partition.verdicts import judge

log = logging.getLogger("buffycoat")


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
