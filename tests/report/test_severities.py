from __future__ import annotations

import numpy as np
import pandas as pd

from buffycoat.core.settings import Statistics
from buffycoat.report.score_labels import PHASES, severity_scores


def test_scores_by_severity_in_the_sources_words() -> None:
    ids = [f"{k}" for k in range(12)]
    guessed = ["LY", "MO"] * 3 + ["LY"] * 6
    rows = pd.DataFrame({"image_id": ids, "true": ["LY", "MO"] * 6, "group": [f"g{k % 4}" for k in range(12)]})
    rows = rows.assign(**dict.fromkeys(PHASES.values(), guessed))
    images = pd.DataFrame({"image_id": ids, "severity": ["none"] * 6 + ["level 9?"] * 5 + [None]})
    found = severity_scores({"test": rows}, images, ["LY", "MO"], 1, Statistics(resamples=100))
    assert [line["severity"] for line in found["test"]] == ["level 9?", "none"]
    assert [line["images"] for line in found["test"]] == [5, 6]
    assert found["test"][1]["after_refinement"]["macro_f1"]["value"] == 1
    assert found["test"][0]["before_refinement"]["accuracy"]["value"] == 0.6
    assert all(np.isfinite(list(line["after_refinement"]["accuracy"].values())).all() for line in found["test"])
    assert severity_scores({"test": rows}, images.assign(severity=None), ["LY", "MO"], 1, Statistics()) == {}
