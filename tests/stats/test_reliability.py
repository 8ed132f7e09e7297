from __future__ import annotations

import numpy as np
import pytest

from buffycoat.stats.scores import calibration_error


def test_calibration_of_honest_and_boastful_probabilities() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, 20_000)
    true = (rng.random(20_000) > p).astype(int)
    honest, bins = calibration_error(np.stack([p, 1 - p], axis=1), true, 10)
    assert honest < 0.02 and sum(row[2] for row in bins) == 20_000
    boastful, _ = calibration_error(np.stack([np.full(100, 0.99), np.full(100, 0.01)], 1), np.array([0, 1] * 50), 10)
    assert boastful == pytest.approx(0.49)
