from __future__ import annotations

import numpy as np

from buffycoat.data.random import stream, stream_seed


def test_a_stream_depends_on_its_names_alone() -> None:
    assert stream(1, "augment", 3, "a.jpg").random() == stream(1, "augment", 3, "a.jpg").random()
    draws = {stream(*names).random() for names in [(1, "a"), (2, "a"), (1, "b"), (1, "a", 1), (1, "a1")]}
    assert len(draws) == 5


def test_joined_names_do_not_collide() -> None:
    assert stream_seed(1, "ab", "c") != stream_seed(1, "a", "bc")
    assert stream_seed(1, 12) != stream_seed(1, 1, 2)


def test_seeds_fit_in_63_bits_and_look_uniform() -> None:
    seeds = np.array([stream_seed(7, "x", i) for i in range(2000)], dtype=np.float64)
    assert 0 <= seeds.min() and seeds.max() < 2**63
    assert abs(seeds.mean() / 2**63 - 0.5) < 0.03
