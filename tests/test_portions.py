from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from buffycoat.errors import InputError
from buffycoat.portions import ALL, gathered, rows_of_portion


@pytest.mark.parametrize(("rows", "portions", "unit"), [(10, 3, 1), (10, 3, 4), (10, 12, 1), (0, 2, 4), (64, 2, 64)])
def test_portions_follow_each_other_and_leave_nothing_out(rows: int, portions: int, unit: int) -> None:
    frame = pd.DataFrame({"image_id": [str(k) for k in range(rows)]})
    found = [rows_of_portion(frame, f"{k + 1}/{portions}", unit) for k in range(portions)]
    assert [i for part in found for i in part["image_id"]] == frame["image_id"].tolist()
    assert all(int(part["image_id"].iloc[0]) % unit == 0 for part in found if len(part))
    assert max(map(len, found)) - min(map(len, found)) <= unit
    pd.testing.assert_frame_equal(rows_of_portion(frame, ALL, unit), frame)


@pytest.mark.parametrize("portion", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_a_portion_that_is_none_is_refused(portion: str) -> None:
    with pytest.raises(InputError, match="write it as k/n"):
        rows_of_portion(pd.DataFrame({"image_id": ["a"]}), portion)


def test_gathered_rows_are_in_order_and_complete() -> None:
    parts = [pd.DataFrame({"image_id": ["b"], "x": [1]}), pd.DataFrame({"image_id": ["a"], "x": [2]})]
    whole = gathered(parts, pd.Series(["a", "b"]), Path("made.parquet"))
    assert whole.columns.tolist() == ["image_id", "x"] and whole["x"].tolist() == [2, 1]
    with pytest.raises(InputError, match=r"made\.parquet, from 2 portions: 1 rows lost, 0 invented, for instance 'c'"):
        gathered(parts, pd.Series(["a", "b", "c"]), Path("made.parquet"))
    with pytest.raises(InputError, match="0 rows lost, 1 invented"):
        gathered(parts, pd.Series(["a"]), Path("made.parquet"))
