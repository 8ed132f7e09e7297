from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from buffycoat.core.errors import InputError
from buffycoat.data.tables.schema import Column, Table, require_same_keys

PLAIN = Table("plain", ("image_id",), (Column("image_id", pa.string(), "id"), Column("x", pa.int32(), "n", gaps=True)))
WIDE = Table("wide", ("image_id",), (Column("image_id", pa.string(), "id"),), classes=pa.float32())


def test_round_trip_keeps_values_gaps_and_order(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [3, None, 1], "image_id": ["c", "a", "b"]})
    PLAIN.write(frame, tmp_path / "t.parquet")
    back = PLAIN.read(tmp_path / "t.parquet")
    assert list(back.columns) == ["image_id", "x"]
    assert back["image_id"].tolist() == ["c", "a", "b"]
    assert back["x"].isna().tolist() == [False, True, False]


TYPES = (pa.float32(), pa.float64(), pa.int32(), pa.int64(), pa.bool_(), pa.string(), pa.list_(pa.float32()))
MIXED = Table(
    "mixed", ("image_id",),
    (Column("image_id", pa.string(), "id"), *(Column(f"c{k}", kind, "n", gaps=True) for k, kind in enumerate(TYPES))),
    classes=pa.float32(),
)  # fmt: skip


@pytest.mark.parametrize("gaps", [0.0, 0.3])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_a_cast_frame_is_what_writing_and_reading_gives(tmp_path: Path, count: int, gaps: float) -> None:
    rng = np.random.default_rng(count)
    values = rng.normal(size=count) * 1e3 ** rng.normal(size=count)
    frame = pd.DataFrame({"BA": values, "image_id": [f"{k}" for k in range(count)], "c0": values, "c1": values})
    frame["c2"], frame["c3"] = (pd.Series(rng.integers(-9, 9, count)).astype("Int64") for _ in range(2))
    frame["c4"] = pd.Series(values > 0).astype("boolean")
    frame["c5"] = pd.Series([f"ä{k}" for k in range(count)], dtype=object)
    frame["c6"] = pd.Series(list(rng.normal(size=(count, 3))), dtype=object)
    for name in ("c0", "c1", "c2", "c3", "c4", "c5", "c6"):
        frame[name] = frame[name].mask(rng.random(count) < gaps, None)
    before = frame.copy(deep=True)
    MIXED.write(frame, tmp_path / "t.parquet")
    cast, stored = MIXED.cast(frame), MIXED.read(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(cast, stored, check_exact=True)
    assert all(one.dtype == other.dtype for one, other in zip(cast["c6"].dropna(), stored["c6"].dropna(), strict=True))
    pd.testing.assert_frame_equal(frame, before)


def test_cast_refuses_what_write_refuses() -> None:
    with pytest.raises(InputError, match="in memory: table 'plain' lacks the columns"):
        PLAIN.cast(pd.DataFrame({"image_id": ["a"]}))
    with pytest.raises(InputError, match="more than once"):
        PLAIN.cast(pd.DataFrame({"image_id": ["a", "a"], "x": [1, 2]}))


def test_class_columns_keep_their_order(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image_id": ["a"], "SNE": [0.5], "BA": [0.25]})
    WIDE.write(frame, tmp_path / "w.parquet")
    back = WIDE.read(tmp_path / "w.parquet")
    assert WIDE.class_columns(list(back.columns)) == ["SNE", "BA"]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"image_id": ["a"]}), "lacks the columns"),
        (pd.DataFrame({"image_id": ["a", "a"], "x": [1, 2]}), "more than once"),
        (pd.DataFrame({"image_id": ["a", None], "x": [1, 2]}), "has gaps"),
        (pd.DataFrame({"image_id": ["a"], "x": [1], "y": [1]}), "undeclared columns"),
        (pd.DataFrame({"image_id": ["a"], "x": ["one"]}), "plain"),
        (pd.DataFrame({"image_id": ["a"], "x": [1.5]}), "plain"),
    ],
)
def test_write_refuses_and_names_the_file(tmp_path: Path, frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        PLAIN.write(frame, tmp_path / "bad.parquet")
    assert "bad.parquet" in str(caught.value)
    assert not (tmp_path / "bad.parquet").exists()


def test_wide_tables_need_classes_without_gaps(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no class columns"):
        WIDE.write(pd.DataFrame({"image_id": ["a"]}), tmp_path / "w.parquet")
    with pytest.raises(InputError, match="'BA' has gaps"):
        WIDE.write(pd.DataFrame({"image_id": ["a"], "BA": [float("nan")]}), tmp_path / "w.parquet")


def test_read_refuses_what_is_not_this_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        PLAIN.read(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("image_id,x\n")
    with pytest.raises(InputError, match="damaged table"):
        PLAIN.read(tmp_path / "text.parquet")
    WIDE.write(pd.DataFrame({"image_id": ["a"], "BA": [1.0]}), tmp_path / "w.parquet")
    with pytest.raises(InputError, match="expected the table 'plain', found 'wide'"):
        PLAIN.read(tmp_path / "w.parquet")
    pq.write_table(pa.table({"image_id": ["a"], "x": [1]}), tmp_path / "foreign.parquet")
    with pytest.raises(InputError, match="foreign Parquet file"):
        PLAIN.read(tmp_path / "foreign.parquet")


def test_a_truncated_table_is_damaged_not_shorter(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    PLAIN.write(pd.DataFrame({"image_id": [str(i) for i in range(100)], "x": range(100)}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="damaged table"):
        PLAIN.read(path)


def test_require_same_keys_names_an_example() -> None:
    require_same_keys(pd.Series(["b", "a"]), pd.Series(["a", "b"]), "same")
    with pytest.raises(InputError, match="1 rows lost, 0 invented, for instance 'b'"):
        require_same_keys(pd.Series(["a"]), pd.Series(["a", "b"]), "lost")
    with pytest.raises(InputError, match="0 rows lost, 1 invented"):
        require_same_keys(pd.Series(["a", "z"]), pd.Series(["a"]), "invented")
