"""Two copies of the project, in folders of their own, give the same bytes; one of them was killed and continued."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from buffycoat.files import read_json, sha256_of
from tests.pipeline.workflow_run import Project

MADE = ("*.parquet", "*.safetensors", "*.arrow", "*.csv", "*.png")
"""What a run is made for; logs and benchmarks tell the time."""


def digests(project: Project) -> dict[str, str]:
    results = project.folder / "results"
    return {file.relative_to(results).as_posix(): sha256_of(file) for ending in MADE for file in results.rglob(ending)}


@pytest.fixture(scope="module")
def both(finished: Project, continued: Project) -> tuple[dict[str, str], dict[str, str]]:
    return digests(finished), digests(continued)


def tells_speed(name: str) -> bool:
    return Path(name).name == "history.parquet"


def test_every_table_model_picture_and_shard_is_the_same(both: tuple[dict[str, str], dict[str, str]]) -> None:
    ours, theirs = both
    assert len(theirs) > 40 and set(theirs) <= set(ours), "the other copy has no ablation"
    assert [name for name in theirs if ours[name] != theirs[name] and not tells_speed(name)] == []


def test_histories_differ_in_their_speed_alone(
    both: tuple[dict[str, str], dict[str, str]], finished: Project, continued: Project
) -> None:
    names = [name for name in both[1] if tells_speed(name)]
    assert names
    for name in names:
        ours, theirs = (pd.read_parquet(p.folder / "results" / name) for p in (finished, continued))
        pd.testing.assert_frame_equal(ours.drop(columns="images_per_s"), theirs.drop(columns="images_per_s"))


def test_the_provenance_of_both_agrees_in_all_but_the_time(finished: Project, continued: Project) -> None:
    ours, theirs = (read_json(p.folder / "results" / "8_report" / "provenance.json") for p in (finished, continued))
    assert {key for key in ours if ours[key] != theirs[key]} <= {"written"}
    bills = [(p.folder / "results" / "8_report" / "sbom.json").read_bytes() for p in (finished, continued)]
    assert bills[0] == bills[1]
