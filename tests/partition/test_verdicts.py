from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from buffycoat.errors import InputError
from buffycoat.partition.light import LEAST_SPREADS, light_deviation, usual_light
from buffycoat.partition.settings import FlagNoisy
from buffycoat.partition.verdicts import compared_noise, judge


def rows(number: int, seed: int = 0, sd: float = 0.2, **replaced: float) -> pd.DataFrame:
    """Clean rows of one slide box; `replaced` sets a score to about a value."""
    rng = np.random.default_rng(seed)
    usual = {"noise_score": 4.0, "surroundings_noise": 1.0, "background_level": 230.0, "background_red": 20.0,
             "background_blue": -20.0, "background_gradient": 3.0} | replaced  # fmt: skip
    frame = pd.DataFrame({name: value * np.exp(rng.normal(0, sd, number)) for name, value in usual.items()})
    frame["background_level"] = usual["background_level"] + rng.normal(0, 4, number)
    frame["blur_score"] = 1 - (1 - replaced.get("blur_score", 0.7)) * np.exp(rng.normal(0, 0.1, number))
    return frame


def judged(*parts: pd.DataFrame, settings: FlagNoisy | None = None) -> list[pd.DataFrame]:
    """Return the parts with their verdicts; all rows are training rows."""
    frame, _ = judge(pd.concat(parts, ignore_index=True), np.ones(sum(map(len, parts)), bool), settings or FlagNoisy())
    ends = np.cumsum([len(part) for part in parts])
    return [frame.iloc[end - len(part) : end] for end, part in zip(ends, parts, strict=True)]


NOISY = {"noise_score": 12.0, "surroundings_noise": 10.0, "blur_score": 0.5}
BLURRED = {"noise_score": 0.6, "surroundings_noise": 0.1, "blur_score": 0.93}


@pytest.mark.parametrize("each", [0, 60, 150])
def test_each_verdict_finds_its_own_kind(each: int) -> None:
    kinds = [rows(each, k, **change) for k, change in enumerate((NOISY, BLURRED, {"background_level": 180.0}), 1)]
    clean, noisy, blurred, dark = judged(rows(300), *kinds)
    assert clean[["noisy", "blurred", "badly_lit"]].mean().max() <= 0.02
    assert noisy["noisy"].all() and blurred["blurred"].all() and dark["badly_lit"].all()
    assert not blurred["noisy"].any() and not noisy["blurred"].any() and not dark["noisy"].any()


def test_granules_are_not_noise_and_crowded_red_cells_are_not() -> None:
    granular = rows(20, 1, sd=0.02, noise_score=11.0)
    crowded = rows(20, 2, sd=0.02, surroundings_noise=2.2)
    settings = FlagNoisy(spread=4.0)
    _, granules, crowd = judged(rows(300), granular, crowded, settings=settings)
    assert not granules["noisy"].any() and not crowd["noisy"].any()
    settings = FlagNoisy(spread=4.0, noise_over="cell")
    assert judged(rows(300), granular, settings=settings)[1]["noisy"].all()


def test_noise_over_the_cell_is_the_noise_score() -> None:
    frame = pd.DataFrame({"noise_score": [9.0, 4.0], "surroundings_noise": [4.0, 0.0]})
    assert compared_noise(frame, "cell").tolist() == [9, 4]
    assert compared_noise(frame, "field").tolist() == [6, 0]


def test_where_all_is_noisy_the_highest_threshold_holds() -> None:
    (noisy,) = judged(rows(200, noise_score=50.0, surroundings_noise=45.0))
    assert noisy["noisy"].all()
    frame, summary = judge(rows(200, noise_score=12.0, surroundings_noise=12.0), np.ones(200, bool), FlagNoisy())
    assert not frame["noisy"].any() and summary["level"] <= 20, "nothing in the scores tells"


def test_fixed_levels_are_taken_as_they_are() -> None:
    settings = FlagNoisy(threshold="fixed", level=3.0, blur_level=0.9, noise_over="cell")
    frame, summary = judge(rows(50), np.ones(50, bool), settings)
    assert summary["level"] == 3 and summary["blur"]["level"] == 0.9 and summary["fitted_on"] == 0
    assert frame["noisy"].tolist() == (frame["noise_score"] >= 3).tolist()


@pytest.mark.parametrize("number", [1, 2])
def test_one_or_two_training_rows_are_enough(number: int) -> None:
    both = pd.concat([rows(number), rows(5, 0, **NOISY)], ignore_index=True)
    frame, _ = judge(both, np.arange(number + 5) < number, FlagNoisy())
    assert frame["noisy"].tolist() == [False] * number + [True] * 5


def test_without_training_rows_there_is_nothing_to_fit() -> None:
    with pytest.raises(InputError, match="no training row to fit"):
        judge(rows(5), np.zeros(5, bool), FlagNoisy())
    with pytest.raises(InputError, match="usual light"):
        judge(rows(5), np.zeros(5, bool), FlagNoisy(threshold="fixed", blur_level=0.9))


def test_the_deviation_is_in_robust_standard_deviations() -> None:
    usual = usual_light(rows(4001))
    spread = usual["background_level"]["spread"]
    assert spread == pytest.approx(4, rel=0.1)
    middle = pd.DataFrame({name: [usual[name]["median"]] for name in LEAST_SPREADS})
    middle["background_gradient"] = np.exp(middle["background_gradient"]) - 2
    assert light_deviation(middle, usual)[0] == pytest.approx(0, abs=1e-9)
    for step in (-7.0, 7.0):
        moved = middle.assign(background_level=middle["background_level"] + step * spread)
        assert light_deviation(moved, usual)[0] == pytest.approx(7)
    assert light_deviation(middle.assign(background_gradient=0.0), usual)[0] == pytest.approx(0, abs=1e-9)
    assert light_deviation(middle.assign(background_gradient=90.0), usual)[0] > 5
    assert light_deviation(middle.assign(background_red=middle["background_red"] + 40), usual)[0] > 5


def test_equal_rows_deviate_by_nothing() -> None:
    row = rows(1)
    frame = row.loc[row.index.repeat(5)].reset_index(drop=True)
    assert light_deviation(frame, usual_light(frame)).tolist() == [0] * 5
