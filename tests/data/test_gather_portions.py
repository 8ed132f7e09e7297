from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from buffycoat.core.errors import InputError
from buffycoat.crop.crop_cells import CROP_BATCH
from buffycoat.data.gather_portions import ALL, BLOCK, gather_portions, rows_of_portion
from buffycoat.data.tables.partition import NOISE_SCORES
from buffycoat.embed.embed_cells import EMBED_BATCH


@pytest.mark.parametrize(("rows", "portions", "unit"), [(10, 3, 1), (10, 3, 4), (10, 12, 1), (0, 2, 4), (64, 2, 64)])
def test_portions_follow_each_other_and_leave_nothing_out(rows: int, portions: int, unit: int) -> None:
    frame = pd.DataFrame({"image_id": [str(k) for k in range(rows)]})
    found = [rows_of_portion(frame, f"{k + 1}-of-{portions}", unit) for k in range(portions)]
    assert [i for part in found for i in part["image_id"]] == frame["image_id"].tolist()
    assert all(int(part["image_id"].iloc[0]) % unit == 0 for part in found if len(part))
    assert max(map(len, found)) - min(map(len, found)) <= unit
    pd.testing.assert_frame_equal(rows_of_portion(frame, ALL, unit), frame)


@pytest.mark.parametrize("portion", ["0-of-2", "3-of-2", "1", "a-of-b", "1-of-0", "1/2"])
def test_a_portion_that_is_none_is_refused(portion: str) -> None:
    with pytest.raises(InputError, match="write it as k-of-n"):
        rows_of_portion(pd.DataFrame({"image_id": ["a"]}), portion)


def scores(names: list[str]) -> pd.DataFrame:
    numbers = {column.name: [float(k) for k in range(len(names))] for column in NOISE_SCORES.columns}
    return pd.DataFrame({**numbers, "image_id": names})


def test_gathered_rows_are_in_the_order_of_the_portions(tmp_path: Path) -> None:
    parts = {"1-of-2": ["b", "a"], "2-of-2": ["c"]}
    for portion, names in parts.items():
        NOISE_SCORES.write(scores(names), tmp_path / "portions" / portion / "noise_scores.parquet")
    portions = [tmp_path / "portions" / portion / "noise_scores.parquet" for portion in parts]
    gather_portions(portions=portions, table=tmp_path / "noise_scores.parquet")
    assert NOISE_SCORES.read(tmp_path / "noise_scores.parquet")["image_id"].tolist() == ["b", "a", "c"]


def test_a_row_in_two_portions_and_a_table_of_another_kind_are_refused(tmp_path: Path) -> None:
    part = tmp_path / "one" / "noise_scores.parquet"
    NOISE_SCORES.write(scores(["a"]), part)
    with pytest.raises(InputError, match="appears more than once"):
        gather_portions(portions=[part, part], table=tmp_path / "noise_scores.parquet")
    with pytest.raises(InputError, match="no table that is made in portions; these are: crops, noise_scores"):
        gather_portions(portions=[part], table=tmp_path / "folds.parquet")


def test_portions_of_all_steps_hold_the_same_images() -> None:
    # Steps that crop and embed begin at whole batches; the rules give a job the shards of its own portion alone.
    assert CROP_BATCH == EMBED_BATCH == BLOCK
