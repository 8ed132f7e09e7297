from __future__ import annotations

from pathlib import Path

import pytest

from tests.classify.cases import make_dataset


@pytest.fixture()
def dataset(tmp_path: Path) -> Path:
    """The small data set, fresh."""
    return make_dataset(tmp_path)
