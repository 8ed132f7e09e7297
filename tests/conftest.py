"""Shared fixtures: the real images, where they are at hand, and no network ever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.pipeline.workflow_run import Finished, run_to_the_end

REPOSITORY = Path(__file__).parent.parent
os.environ.setdefault("HF_HUB_OFFLINE", "1")


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
    """The whole workflow, run once at the smallest size, in a folder whose name has a space."""
    return run_to_the_end(tmp_path_factory.mktemp("workflow") / "with space")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Last, because they are the ones that a time limit may leave out.
    items.sort(key=lambda item: (REPOSITORY / "tests" / "cluster") in item.path.parents)
