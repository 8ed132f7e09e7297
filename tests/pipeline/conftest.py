"""The whole workflow, run once at the smallest size; the tests of this folder look at what it left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.workflow_run import Finished, Project


@pytest.fixture(scope="session")
def finished(undisturbed: Finished) -> Project:
    project = undisturbed.project
    # It trains every recipe, so only when asked.
    assert not list((project.folder / "results").rglob("ablation.*"))
    shown = project.snakemake(targets=("ablation", "pack_bundle"))
    assert shown.returncode == 0, (shown.stdout + shown.stderr)[-6000:]
    return project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("pipeline")
