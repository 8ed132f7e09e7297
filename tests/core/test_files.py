from __future__ import annotations

from pathlib import Path

import pytest

from buffycoat.core.errors import InputError
from buffycoat.core.files import read_json, sha256_of, whole_file, whole_folder, write_json


def test_a_file_appears_only_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "new" / "table.csv"
    with whole_file(target) as partial:
        partial.write_text("half")
        assert not target.exists()
        assert partial.suffix == ".csv"
    assert target.read_text() == "half"


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "kept.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), whole_file(target) as partial:
        partial.write_text("new")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "shards"
    target.mkdir()
    (target / "stale").write_text("x")
    with whole_folder(target) as partial:
        (partial / "fresh").write_text("y")
    assert [file.name for file in target.iterdir()] == ["fresh"]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "shards"
    target.mkdir()
    (target / "kept").write_text("x")
    with pytest.raises(RuntimeError), whole_folder(target) as partial:
        (partial / "fresh").write_text("y")
        raise RuntimeError
    assert [file.name for file in tmp_path.iterdir()] == ["shards"]
    assert (target / "kept").read_text() == "x"


def test_json_round_trip_and_refusals(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json({"é": [1, 2.5, None]}, path)
    assert read_json(path) == {"é": [1, 2.5, None]}
    with pytest.raises(ValueError):
        write_json({"x": float("nan")}, path)
    path.write_text("{")
    with pytest.raises(InputError, match=r"a\.json: not valid JSON"):
        read_json(path)
    with pytest.raises(InputError, match="no such file"):
        read_json(tmp_path / "absent.json")


def test_sha256_of_known_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
