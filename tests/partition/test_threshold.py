from __future__ import annotations

import numpy as np
import pytest

from buffycoat.partition.flag_noisy import Scores, clean_peak, fit_threshold, histogram_of


def lognormal(rng: np.random.Generator, centre: float, spread: float, number: int) -> Scores:
    return np.exp(rng.normal(np.log(centre), spread, number))


def noisy_ones(rng: np.random.Generator, number: int) -> Scores:
    """Four severities alike, from nearly four times the clean ones upwards."""
    return np.concatenate([lognormal(rng, centre, 0.12, number // 4 + 1) for centre in (15, 22, 30, 38)])[:number]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5, 0.7, 0.79])
@pytest.mark.parametrize("rows", [150, 2000])
def test_clean_crops_stay_and_noisy_ones_are_found_whatever_their_share(seed: int, share: float, rows: int) -> None:
    rng = np.random.default_rng(seed)
    noisy = noisy_ones(rng, round(rows * share))
    clean = lognormal(rng, 4, 0.12, rows - len(noisy))
    level = fit_threshold(np.concatenate([clean, noisy]), 5.0)
    assert (clean >= level).mean() <= 0.01
    assert (noisy < level).sum() <= 0.02 * len(noisy)


@pytest.mark.parametrize("seed", range(4))
def test_a_single_severity_that_most_rows_share_is_not_taken_for_the_clean_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clean, noisy = lognormal(rng, 4, 0.2, 600), lognormal(rng, 11, 0.02, 1400)
    level = fit_threshold(np.concatenate([clean, noisy]), 4.0)
    assert (clean >= level).mean() <= 0.01 and (noisy >= level).all()


def test_a_few_flat_crops_do_not_move_the_threshold_far() -> None:
    clean = lognormal(np.random.default_rng(0), 4, 0.2, 1000)
    level = fit_threshold(clean, 4.0)
    assert fit_threshold(np.concatenate([clean, np.zeros(50)]), 4.0) == pytest.approx(level, rel=0.1)


def test_the_largest_peak_can_be_taken_instead() -> None:
    rng = np.random.default_rng(0)
    low, high = lognormal(rng, 1, 0.1, 400), lognormal(rng, 10, 0.1, 600)
    both = np.concatenate([low, high])
    assert 1 < fit_threshold(both, 4.0) < 3 < 10 < fit_threshold(both, 4.0, largest=True)


def test_rows_of_one_peak_are_all_taken_for_clean() -> None:
    noisy = lognormal(np.random.default_rng(0), 25, 0.1, 500)
    assert (noisy >= fit_threshold(noisy, 4.0)).mean() <= 0.01


def test_the_threshold_follows_the_unit_and_ignores_order() -> None:
    scores = lognormal(np.random.default_rng(1), 3, 0.3, 500)
    level = fit_threshold(scores, 3.5)
    assert fit_threshold(scores[::-1], 3.5) == pytest.approx(level)
    assert fit_threshold(scores * 3, 3.5) == pytest.approx(3 * level, rel=1e-6)
    assert fit_threshold(scores, 6.0) > level


@pytest.mark.parametrize("scores", [[4.0], [0.0], [0.0, 0.0, 0.0], [3.0] * 10, [2.0, 2.1], [255.0] * 3])
def test_degenerate_scores_have_a_threshold_above_them(scores: list[float]) -> None:
    level = fit_threshold(np.array(scores), 3.5)
    assert np.isfinite(level) and level > max(scores)


def test_of_two_rows_far_apart_the_lower_is_clean() -> None:
    assert 2 < fit_threshold(np.array([2.0, 40.0]), 3.5) < 40


@pytest.mark.parametrize("seed", range(20))
def test_the_threshold_lies_above_the_clean_peak_for_any_scores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.concatenate(
        [
            lognormal(rng, float(rng.uniform(0.05, 200)), float(rng.uniform(0, 1.5)), int(rng.integers(1, 200)))
            for _ in range(int(rng.integers(1, 5)))
        ]
    )
    place, low, high = clean_peak(np.log(np.maximum(scores, 1e-3)))
    assert low <= place <= high
    assert np.exp(place) < fit_threshold(scores, 3.5) < np.inf


def test_the_histograms_count_everything() -> None:
    for logarithmic in (True, False):
        histogram = histogram_of(np.array([0.5, 1, 2, 30.0]), 10, logarithmic)
        edges, counts = histogram["edges"], histogram["counts"]
        assert len(edges) == 11 and sum(counts) == 4 and edges == sorted(edges)
        assert edges[0] == pytest.approx(0.5) and edges[-1] == pytest.approx(30)
