"""The verdict on a batch: what the training images were like, and when a batch is unlike them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from buffycoat.bundle.verdict import COMPARISONS, differences, fit_usual, judge, limit_of, measured

N = 200


def measures(rows: int = N, seed: int = 0, scale: float = 1.0, **changed: object) -> pd.DataFrame:
    """Cells of two sizes, a few of them noisy or badly lit."""
    rng = np.random.default_rng(seed)
    sizes = np.where(np.arange(rows) % 4 == 0, 90.0, 60.0) * scale
    frame = pd.DataFrame(
        {
            "cell": np.arange(rows) % 50 == 7, "noise": np.arange(rows) % 20 == 3, "blur": False,
            "light": np.arange(rows) % 10 == 5, "probability": np.arange(rows) % 10 == 9,
            "diameter_px": sizes + rng.normal(0, 3, rows) * scale, "cell_level": rng.normal(120, 10, rows),
            "red_blue_ratio": rng.normal(0.9, 0.05, rows), "feature_distance": rng.gamma(9, 1, rows),
        }, index=[f"{k}.png" for k in range(rows)],
    )  # fmt: skip
    return frame.assign(**changed)


USUAL = fit_usual(measures(), pd.Series(np.where(np.arange(N) % 4 == 0, "MO", "LY"), dtype=object))


def batch(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {"status": "ok", "unlike": differences(frame, USUAL), "diameter_px": frame["diameter_px"].to_numpy()}
    )


def test_more_of_the_same_is_like_the_training_images() -> None:
    for seed in range(1, 20):
        verdict = judge(batch(measures(40, seed)), USUAL)
        assert verdict.verdict == "like", verdict.lines()
    assert verdict.lines()[0].startswith(
        "no difference from the images that the model learned from: 8 comparisons of 40"
    )


def test_one_class_alone_is_as_usual_as_all_of_them() -> None:
    for kept in (0, 1):
        frame = measures(160, 5).iloc[kept::4]
        assert judge(batch(frame), USUAL).verdict == "like"


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("cell", measures(40, 3, cell=np.arange(40) % 2 == 0, diameter_px=np.nan)),
        ("scale", measures(40, 3, scale=0.5)),
        ("scale", measures(40, 3, scale=2.0)),
        ("noise", measures(40, 3, noise=np.arange(40) % 2 == 0)),
        ("blur", measures(40, 3, blur=np.arange(40) % 3 == 0)),
        ("light", measures(40, 3, light=True)),
        ("colour", measures(40, 3, cell_level=200.0)),
        ("colour", measures(40, 3, red_blue_ratio=1.4)),
        ("distance", measures(40, 3, feature_distance=40.0)),
        ("probability", measures(40, 3, probability=np.arange(40) % 5 < 3)),
    ],
)
def test_each_difference_is_found_and_told_by_its_name(name: str, frame: pd.DataFrame) -> None:
    verdict = judge(batch(frame), USUAL)
    assert verdict.verdict == "unlike" and [entry.name for entry in verdict.comparisons if entry.beyond] == [name]
    first, second = verdict.lines()
    assert "UNLIKE" in first and "do not use the labels and counts below" in first
    assert second.startswith(f"  {name}: in ") and f"of 40 images {COMPARISONS[name]} (training images: " in second
    if name == "scale":
        assert f"median diameter {verdict.diameter_px:.0f} px, in training 61 px" in second
    assert json.loads(json.dumps(verdict.as_json()))["sentences"][0] == first


@pytest.mark.parametrize("rows", [0, 1, 9])
def test_few_images_give_no_verdict(rows: int) -> None:
    verdict = judge(batch(measures(rows, 1, scale=0.3, light=True)), USUAL)
    assert verdict.verdict == "none" and verdict.images == rows
    assert verdict.lines() == [
        f"{rows} image{'s' * (rows != 1)} with pixels: fewer than 10 give no verdict on whether they are like those"
        " that the model learned from"
    ]


def test_images_without_pixels_are_not_compared() -> None:
    frame = batch(measures(12, 1, light=True))
    frame.loc[:2, "status"] = "missing"
    assert judge(frame, USUAL).images == 9 and judge(frame, USUAL).verdict == "none"


def test_the_limit_is_wider_for_small_batches_and_what_cannot_fail_is_not_counted() -> None:
    assert limit_of(0.0, 10) == 0.25 and limit_of(0.2, 10) > limit_of(0.2, 1000) == pytest.approx(0.45)
    usual = USUAL.model_copy(update={"shares": {**USUAL.shares, "probability": 0.9}, "ranges": {}})
    verdict = judge(batch(measures(40, 3, probability=True)), usual)
    assert verdict.verdict == "like"
    assert "4 comparisons of 40 images" in verdict.lines()[0], "no range of scale, colour or distance; unsure as ever"


def test_a_training_set_that_measures_nothing_compares_nothing_of_it() -> None:
    empty = measures(30, 1, diameter_px=np.nan, feature_distance=np.nan)
    usual = fit_usual(empty, pd.Series(["LY"] * 30, dtype=object))
    assert usual.diameter_px is None and set(usual.ranges) == {"cell_level", "red_blue_ratio"}
    assert fit_usual(empty.head(0), pd.Series([], dtype=object)).images == 0


def test_measures_follow_the_images_whatever_the_order_of_the_tables() -> None:
    ids = ["a", "b", "c"]
    crops = pd.DataFrame({"image_id": ids, "found": [True, False, True], "area_px": [314, 0, 1257]})
    noise = pd.DataFrame({"image_id": ids, "noisy": [True, False, False], "blurred": False, "badly_lit": False})
    shapes = pd.DataFrame({"image_id": ids, "cell_level": [1.0, 2, 3], "red_blue_ratio": 1.0})
    suspects = pd.DataFrame({"image_id": ids[::-1], "kinds": ["energy,probability", "", ""], "feature_distance": 1.0})
    found = measured(crops, noise.iloc[::-1], shapes, suspects)
    assert found.index.tolist() == ids[::-1] and found["cell_level"].tolist() == [3, 2, 1]
    assert found["diameter_px"].tolist() == pytest.approx([40, np.nan, 20], rel=1e-3, nan_ok=True)
    assert found["probability"].tolist() == [True, False, False] and found["cell"].tolist() == [False, True, False]
