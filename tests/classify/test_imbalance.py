from __future__ import annotations

import math

import numpy as np
import pytest

from buffycoat.classify.recipes import (
    class_weights,
    effective_number_weights,
    effective_share,
    ldam_margins,
    log_frequencies,
    rarity,
)

COUNTS = np.array([1000, 100, 10, 0])


def test_class_weights_are_the_papers() -> None:
    a = [1 / (math.log(1 + n) + 1e-5) for n in (1000, 100, 10)]
    assert rarity(COUNTS, "log")[:3] == pytest.approx(a)
    assert class_weights(COUNTS, "log")[:3] == pytest.approx([3 * value / sum(a) for value in a])
    assert class_weights(COUNTS, "log")[:3].mean() == pytest.approx(1)
    assert class_weights(COUNTS, "none").tolist() == [1, 1, 1, 0]


def test_the_kinds_lift_rare_classes_in_order() -> None:
    ones = np.ones(4)
    shares = [effective_share(COUNTS, rarity(COUNTS, kind), ones)[2] for kind in ("none", "log", "sqrt", "balanced")]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(10 / 1110) and shares[3] == pytest.approx(1 / 3)
    assert rarity(COUNTS, "balanced")[3] == 0, "a class without images is never drawn"


def test_sampler_and_weights_multiply_in_the_share() -> None:
    sampler, weights = rarity(COUNTS, "log"), class_weights(COUNTS, "log")
    both = effective_share(COUNTS, sampler, weights)
    products = [n * sampler[k] * weights[k] for k, n in enumerate(COUNTS)]
    assert both == pytest.approx([value / sum(products) for value in products])
    assert both[2] > effective_share(COUNTS, sampler, np.ones(4))[2]


def test_effective_numbers_go_from_equal_weights_to_inverse_frequencies() -> None:
    assert effective_number_weights(COUNTS, 0.0).tolist() == [1, 1, 1, 0]
    nearly = effective_number_weights(COUNTS, 1 - 1e-9)
    assert nearly[:3] == pytest.approx(class_weights(COUNTS, "balanced")[:3], rel=1e-4)
    n, beta = 10, 0.99
    between = effective_number_weights(COUNTS, beta)
    expected = sum(beta**k for k in range(100)) / sum(beta**k for k in range(n))
    assert between[2] / between[1] == pytest.approx(expected)


def test_margins_fall_with_the_fourth_root_and_the_rarest_has_the_largest() -> None:
    margins = ldam_margins(COUNTS, 0.5)
    assert margins[2] == pytest.approx(0.5) and margins[3] == 0
    assert margins[1] / margins[0] == pytest.approx(10**0.25)


def test_log_frequencies_do_not_lift_a_class_that_was_never_learned() -> None:
    values = log_frequencies(COUNTS)
    assert values[:3] == pytest.approx([math.log(n / 1110) for n in (1000, 100, 10)])
    assert values[3] == values[0]
