"""Shared fixtures: the real images, where they are at hand, and no network ever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
