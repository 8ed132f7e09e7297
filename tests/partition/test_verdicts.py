from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from buffycoat.core.errors import InputError
from buffycoat.partition.flag_noisy import compared_noise, judge
from buffycoat.partition.scores import light_deviation, usual_light
from buffycoat.partition.settings import FlagNoisy


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
    settings = FlagNoisy(threshold="fixed", level=3.0, noise_over="cell")
    frame, summary = judge(rows(50), np.ones(50, bool), settings)
    assert summary["level"] == 3 and summary["fitted_on"] == 0
    assert frame["noisy"].tolist() == (frame["noise_score"] >= 3).tolist()


@pytest.mark.parametrize("number", [1, 2])
def test_one_or_two_training_rows_are_enough(number: int) -> None:
    both = pd.concat([rows(number), rows(5, 0, **NOISY)], ignore_index=True)
    frame, _ = judge(both, np.arange(number + 5) < number, FlagNoisy())
    assert frame["noisy"].tolist() == [False] * number + [True] * 5


def test_without_training_rows_there_is_nothing_to_fit() -> None:
    for settings in (FlagNoisy(), FlagNoisy(threshold="fixed")):
        with pytest.raises(InputError, match="no training row"):
            judge(rows(5), np.zeros(5, bool), settings)


def glass(level: float = 230, gradient: float = 3, red: float = 20, blue: float = -20) -> pd.DataFrame:
    return pd.DataFrame({"background_level": [level], "background_gradient": [gradient], "background_red": [red],
                         "background_blue": [blue]})  # fmt: skip


def test_the_deviation_is_in_robust_standard_deviations() -> None:
    reds = np.random.default_rng(0).normal(20, 8, 4001)
    usual = usual_light(glass().loc[[0] * 4001].assign(background_red=reds))
    assert usual["red"]["spread"] == pytest.approx(8, rel=0.1)
    spread, median = usual["red"]["spread"], usual["red"]["median"]
    for step in (-7, 0, 7):
        assert light_deviation(glass(red=median + step * spread), usual)[0] == pytest.approx(abs(step), abs=1e-9)


def test_dark_bright_uneven_and_coloured_glass_deviates_and_even_glass_does_not() -> None:
    usual = usual_light(rows(1000))
    for unusual in (glass(185), glass(255), glass(gradient=60), glass(red=60), glass(blue=30)):
        assert light_deviation(unusual, usual)[0] > 3.5
    assert light_deviation(glass(gradient=0), usual)[0] < 1
    darker = [light_deviation(glass(level), usual)[0] for level in (230, 215, 200, 150, 50, 0)]
    brighter = [light_deviation(glass(level), usual)[0] for level in (232, 240, 247, 255)]
    assert (np.diff(darker) > 0).all() and (np.diff(brighter) > 0).all()


def test_where_glass_is_white_one_step_less_is_not_unusual() -> None:
    usual = usual_light(pd.concat([glass(255)] * 9))
    assert light_deviation(glass(253), usual)[0] < 3.5 < light_deviation(glass(235), usual)[0]


def test_equal_rows_deviate_by_nothing() -> None:
    row = rows(1)
    frame = row.loc[row.index.repeat(5)].reset_index(drop=True)
    assert light_deviation(frame, usual_light(frame)).tolist() == [0] * 5
