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


WITHIN = "BUFFYCOAT_SLURM_WITHIN_MIN"
"""Set to a number, it leaves these tests out where the others have taken more minutes: a CI has a time limit."""
STARTED = time.monotonic()


def require_time() -> None:
    """Raise CannotStart where the tests have run longer than the environment allows."""
    minutes = (time.monotonic() - STARTED) / 60
    if minutes > float(os.environ.get(WITHIN, "inf")):
        raise CannotStart(f"the other tests have taken {minutes:.0f} minutes, and {WITHIN} is {os.environ[WITHIN]}")


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    started = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        require_time()
        if os.environ.get(INSTALL) == "1" and shutil.which("slurmctld") is None:
            install_slurm()
        started.start()
    except CannotStart as reason:
        pytest.skip(f"no Slurm to run on: {reason}")
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
