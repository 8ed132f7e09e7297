"""A Slurm on loopback for the tests of this folder, where it can be had."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.slurm import CannotStart, Slurm, install_slurm
from tests.cluster.slurm_run import SlurmRun
from tests.pipeline.workflow_run import Project, copy_project

INSTALL = "BUFFYCOAT_INSTALL_SLURM"
"""Set to 1, it lets the tests install Debian's packages of Slurm where there is none."""

REQUIRE = "BUFFYCOAT_REQUIRE_SLURM"
"""Set to 1, it lets these tests fail where no Slurm starts, instead of being skipped."""
WAIT_S = 10
"""Before the second and last try."""


def start(slurm: Slurm) -> None:
    """Install Slurm where that is allowed and needed, and start it; raises CannotStart."""
    if os.environ.get(INSTALL) == "1" and shutil.which("slurmctld") is None:
        install_slurm()
    slurm.start()


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    started = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        start(started)
    except CannotStart:
        time.sleep(WAIT_S)
        started = Slurm(tmp_path_factory.mktemp("slurm"))
        try:
            start(started)
        except CannotStart as reason:
            give_up = pytest.fail if os.environ.get(REQUIRE) == "1" else pytest.skip
            give_up(f"no Slurm to run on, also at the second try: {reason}")
    yield started
    started.stop()


@pytest.fixture(scope="session")
def finished(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, SlurmRun]:
    """Return a project whose workflow ran to the end on Slurm, and that run."""
    project = copy_project(tmp_path_factory.mktemp("workflow"))
    run = SlurmRun(project)
    assert run.wait() == 0, run.text()[-6000:]
    return project, run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and "slurm" in getattr(item, "fixturenames", ()):
            item.add_marker("cluster")
