"""The whole workflow, run once at the smallest size; the tests of this folder look at what it left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pipeline.workflow_run import TINY, Project, copy_project


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = copy_project(tmp_path_factory.mktemp("workflow") / "with space")
    shown = project.snakemake()
    assert shown.returncode == 0, (shown.stdout + shown.stderr)[-6000:]
    # It trains every recipe, so only when asked.
    assert not list((project.folder / "results").rglob("ablation.*"))
    shown = project.snakemake(targets=("ablation",))
    assert shown.returncode == 0, (shown.stdout + shown.stderr)[-6000:]
    return project


@pytest.fixture(scope="session")
def continued(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Another copy of the project, whose run was killed on its way and then continued to its end."""
    project = copy_project(tmp_path_factory.mktemp("killed"))
    environment = {**os.environ, "PYTHONPATH": str(project.folder / "src")}
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", TINY]
    run = subprocess.Popen(
        command, cwd=project.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    table = project.folder / "results" / "2_crop" / "crops.parquet"
    until = time.monotonic() + 240
    while not table.exists() and run.poll() is None and time.monotonic() < until:
        time.sleep(0.2)
    assert run.poll() is None, "the run ended before it could be killed"
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    project.snakemake("--unlock")
    shown = project.snakemake("--rerun-incomplete")
    assert shown.returncode == 0, (shown.stdout + shown.stderr)[-3000:]
    return project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("pipeline")
