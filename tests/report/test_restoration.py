from __future__ import annotations

import numpy as np
import pandas as pd

from buffycoat.report.sections import counts, moved, worst_kept, worst_refused

CELLS = pd.DataFrame(
    {
        "image_id": list("abcdef"),
        "restored": [True, True, False, False, False, False],
        "noise_before": [9.0] * 6,
        "noise_after": [3.0, 4.0, 12.0, 5.0, 6.0, np.nan],
        "nucleus_change": [0.05, -0.15, 0.0, -0.5, 0.1, np.nan],
        "cell_change": [-0.1, 0.0, 0.02, 0.0, 0.9, np.nan],
        "reason": ["restored", "restored", "refused: noise score 9.0 would become 12.0",
                   "refused: nucleus area would change by -50%, limit 20%",
                   "refused: cell area would change by +90%, limit 15%", "clean"],
    }
)  # fmt: skip


def test_the_larger_change_counts_either_way() -> None:
    assert moved(CELLS).tolist()[:5] == [0.1, 0.15, 0.02, 0.5, 0.9]


def test_the_worst_come_first() -> None:
    assert worst_kept(CELLS, 5)["image_id"].tolist() == ["b", "a"]
    assert worst_kept(CELLS, 1)["image_id"].tolist() == ["b"]
    # By turns: the most moved, then the noisiest.
    assert worst_refused(CELLS, 5)["image_id"].tolist() == ["e", "c", "d"]
    assert worst_refused(CELLS, 0).empty


def test_counts_and_reasons() -> None:
    found = counts(CELLS)
    assert (found["tried"], found["kept"], found["refused"]) == (5, 2, 3)
    assert found["why"] == {"noise score": 1, "nucleus area": 1, "cell area": 1}
    assert counts(CELLS.iloc[5:]) == {"tried": 0, "kept": 0, "refused": 0, "why": {}}
