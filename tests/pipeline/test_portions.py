"""Steps that are divided into portions end with the same tables as those that are not."""

from __future__ import annotations

import pandas as pd
import pytest

from buffycoat.data.images import CellImages
from tests.pipeline.workflow_run import Project, copy_of

TABLES = (
    "2_crop/crops.parquet",
    "3_partition/noise_scores.parquet",
    "4_restore/pix2pix/cells.parquet",
    "6_embed/embeddings.parquet",
    "7_measure/morphology.parquet",
)
PLACE = ["shard", "shard_row"]
DIVIDED_RULES = ("crop_cells", "measure_noise", "embed_cells", "measure_cells")
DIVIDED = ("--set-scatter", "portions=3")
TARGETS = tuple(f"results/{table}" for table in TABLES)


@pytest.fixture(scope="module")
def divided(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the finished project whose four divided steps, and what follows them, run again in three portions."""
    project = copy_of(finished, tmp_path_factory.mktemp("portions") / "project")
    planned = project.planned_jobs(*DIVIDED, targets=TARGETS)
    assert {rule: jobs for rule, jobs in planned.items() if jobs == 3} == dict.fromkeys(DIVIDED_RULES, 3)
    assert {"train_gan", "restore_cells"} <= set(planned)
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
