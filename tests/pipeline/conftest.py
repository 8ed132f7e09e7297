"""The whole workflow, run once at the smallest size; the tests of this folder look at what it left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.workflow_run import Finished, Project


@pytest.fixture(scope="session")
def finished(undisturbed: Finished) -> Project:
    """The finished project, which a test must not change: `copy_of` gives it one of its own."""
    return undisturbed.project


@pytest.fixture(scope="session")
def users(finished: Project) -> dict[str, set[str]]:
    """For each rule, the rules that use its output directly."""
    return finished.edges()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("pipeline")
