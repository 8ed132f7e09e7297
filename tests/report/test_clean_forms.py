from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from buffycoat.core.settings import Statistics
from buffycoat.data.images import ShardWriter
from buffycoat.report.clean_forms import against_clean_forms
from buffycoat.report.score_labels import PHASES, severity_scores
from buffycoat.report.sections import Cells


def cells(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, Cells]:
    """Two pairs; the degraded crop of the second one was restored to the clean one."""
    rng = np.random.default_rng(0)
    clean = [rng.integers(0, 256, (32, 32, 3)).astype(np.uint8) for _ in range(2)]
    worse = [np.clip(crop + rng.normal(0, 20, crop.shape), 0, 255).astype(np.uint8) for crop in clean]
    mask = np.ones((32, 32), np.uint8)
    rows = []
    with ShardWriter(folder / "shards", 32) as writer:
        for name, crop in (("p0", clean[0]), ("p1", clean[1]), ("d0", worse[0]), ("d1", worse[1]), ("r1", clean[1])):
            shard, row, crc32 = writer.add(name, crop, mask)
            rows.append({"image_id": name, "shard": f"shards/{shard}", "shard_row": row, "crc32": crc32})
    crops = pd.DataFrame(rows[:4]).assign(row=16.0, col=16.0, window_px=32)
    table = pd.DataFrame([*rows[:3], {**rows[4], "image_id": "d1"}]).assign(restored=[False, False, False, True])
    images = pd.DataFrame({"image_id": ["p0", "p1", "d0", "d1"], "severity": [None, None, "mild", "odd words"],
                           "original": [None, None, "p0", "p1"]})  # fmt: skip
    return images, crops, table, Cells(crops, folder / "crops.parquet", table, folder / "cells.parquet")


def test_likeness_to_the_clean_form_by_severity(tmp_path: Path) -> None:
    mild, odd = against_clean_forms(*cells(tmp_path))
    assert (mild["severity"], mild["pairs"], mild["restored"], mild["of_restored"]) == ("mild", 1, 0, None)
    before, after = (float(value) for value in mild["all"]["psnr"].split(" → "))
    assert before == after and 15 < before < 30
    assert odd["severity"] == "odd words" and odd["of_restored"]["psnr"].endswith("→ 100.00")


def test_without_pairs_there_is_nothing_to_compare(tmp_path: Path) -> None:
    images, *others = cells(tmp_path)
    assert against_clean_forms(images.assign(original=None), *others) == []


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
