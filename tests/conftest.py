"""Shared fixtures: the real images, where they are at hand, one finished run of the workflow, and no network ever."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.pipeline.workflow_run import Finished, run_once

REPOSITORY = Path(__file__).parent.parent
os.environ.setdefault("HF_HUB_OFFLINE", "1")

LENGTHS = {"short": 60, "long": 1000}
"""How many examples each fuzz test draws; `pytest --hypothesis-profile=long` asks for the second."""
for name, examples in LENGTHS.items():
    settings.register_profile(
        name, max_examples=examples, derandomize=True, deadline=None, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
settings.load_profile("short")


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = Path(os.environ.get("BUFFYCOAT_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "pbc" / "images.csv").is_file():
        pytest.skip(f"no real cell images at {folder}: set BUFFYCOAT_DATA to a folder that holds pbc/ and masks/")
    return folder


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The whole workflow with its ablation and its bundle, run once at the smallest size; the tests only read it.

    Its folder has a space in its name. Where tests run in several processes, one of them runs it, and the others wait.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    return run_once(shared / "workflow" / "with space")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # First what makes the run that others read, so that the other process has work until it stands. Slurm comes last.
    first, last = REPOSITORY / "tests" / "pipeline" / "test_whole_workflow.py", REPOSITORY / "tests" / "cluster"
    items.sort(key=lambda item: (item.path != first, last in item.path.parents))


@pytest.fixture(autouse=True)
def level_of_our_log() -> Iterator[None]:
    """Give our log its level back: commands that are called in process make it quiet for all that follows."""
    log = logging.getLogger("buffycoat")
    level = log.level
    yield
    log.setLevel(level)
