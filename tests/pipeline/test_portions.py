"""Steps that are divided into portions end with the same tables as those that are not."""

from __future__ import annotations

import pandas as pd
import pytest

from buffycoat.data.images import CellImages
from tests.pipeline.workflow_run import Project, copy_project

TABLES = (
    "2_crop/crops.parquet",
    "3_partition/noise_scores.parquet",
    "4_restore/pix2pix/cells.parquet",
    "6_embed/embeddings.parquet",
    "7_measure/morphology.parquet",
)
PLACE = ["shard", "shard_row"]
DIVIDED = ("--set-scatter", "portions=3")
TARGETS = tuple(f"results/{table}" for table in TABLES)


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = copy_project(tmp_path_factory.mktemp("portions"))
    shown = project.snakemake(*DIVIDED, targets=TARGETS)
    assert shown.returncode == 0, (shown.stdout + shown.stderr)[-6000:]
    return project


@pytest.mark.parametrize("table", TABLES)
def test_a_gathered_table_is_that_of_one_job(finished: Project, divided: Project, table: str) -> None:
    ours, theirs = (pd.read_parquet(project.folder / "results" / table) for project in (divided, finished))
    kept = [name for name in theirs.columns if name not in PLACE]
    pd.testing.assert_frame_equal(ours[kept], theirs[kept])


@pytest.mark.parametrize("table", ["2_crop/crops.parquet", "4_restore/pix2pix/cells.parquet"])
def test_every_pixel_is_where_the_table_says(divided: Project, table: str) -> None:
    path = divided.folder / "results" / table
    frame = pd.read_parquet(path)
    assert sum(1 for _ in CellImages(frame, path)) == len(frame), "each is checked against its checksum"
    assert frame["shard"].nunique() >= 3


def test_portions_have_jobs_of_their_own_and_are_made_once(divided: Project) -> None:
    assert divided.planned(*DIVIDED, targets=TARGETS) == set()
    jobs = divided.planned_jobs(
        *DIVIDED, "--forcerun", "crop_cells", targets=("results/3_partition/noise_scores.parquet",)
    )
    assert jobs == {"crop_cells": 3, "measure_noise": 3, "gather_portions": 2}
