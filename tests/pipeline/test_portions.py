"""Steps that are divided into portions end with the same tables as those that are not."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from buffycoat.data.images import CellImages
from tests.pipeline.workflow_run import TINY, Project, copy_project

TABLES = (
    "2_crop/crops.parquet",
    "3_partition/noise_scores.parquet",
    "4_restore/cells.parquet",
    "6_embed/embeddings.parquet",
    "6_embed/prompts.parquet",
    "7_measure/morphology.parquet",
)
PLACE = ["shard", "shard_row"]
CHANGED = "crop: {crop_cells: {centrality: 0.3}}"


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = copy_project(tmp_path_factory.mktemp("portions"))
    (project.folder / "overlay.yaml").write_text("portions: 3")
    shown = project.snakemake(
        "--configfile", TINY, "overlay.yaml", targets=tuple(f"results/{table}" for table in TABLES)
    )
    assert shown.returncode == 0, (shown.stdout + shown.stderr)[-6000:]
    return project


@pytest.mark.parametrize("table", TABLES)
def test_a_gathered_table_is_that_of_one_job(finished: Project, divided: Project, table: str) -> None:
    ours, theirs = (pd.read_parquet(project.folder / "results" / table) for project in (divided, finished))
    kept = [name for name in theirs.columns if name not in PLACE]
    pd.testing.assert_frame_equal(ours[kept], theirs[kept])


@pytest.mark.parametrize("table", ["2_crop/crops.parquet", "4_restore/cells.parquet"])
def test_every_pixel_is_where_the_table_says(divided: Project, table: str) -> None:
    path = divided.folder / "results" / table
    frame = pd.read_parquet(path)
    assert sum(1 for _ in CellImages(frame, path)) == len(frame), "each is checked against its checksum"


def test_nothing_of_the_portions_is_left_but_their_logs(divided: Project) -> None:
    results = divided.folder / "results"
    assert not [file for file in results.rglob("portions/*/*") if file.suffix in (".parquet", ".arrow")]
    assert len(list(results.rglob("logs/portions/*.log"))) == 12
    targets = tuple(f"results/{table}" for table in TABLES)
    assert divided.planned("--configfile", TINY, "overlay.yaml", targets=targets) == set()


def test_a_changed_setting_reruns_the_portions_too(divided: Project, tmp_path: Path) -> None:
    changed = tmp_path / "changed.yaml"
    changed.write_text(CHANGED)
    jobs = divided.planned_jobs(
        "--configfile", TINY, "overlay.yaml", str(changed), targets=("results/3_partition/noise_scores.parquet",)
    )
    assert jobs == {"crop_cells_portion": 3, "crop_cells": 1, "measure_noise_portion": 3, "measure_noise": 1}
