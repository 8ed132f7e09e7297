from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """What the script outside the package defines."""
    return runpy.run_path(str(REPOSITORY / "docs" / "write_reference.py"))


def test_the_pages_in_docs_are_current(script: dict[str, Any], repository: Path) -> None:
    for name, text in script["pages"]().items():
        assert (repository / "docs" / name).read_text() == text, f"docs/{name} is out of date: run `make docs`"


def test_every_setting_option_and_column_is_explained(script: dict[str, Any]) -> None:
    for page in ("configuration_page", "command_line_page"):
        for line in script[page]().splitlines():
            if line.startswith("| "):
                assert line.split("|")[-2].strip(), line
    for table in script["tables"]():
        assert all(column.meaning for column in table.columns)
