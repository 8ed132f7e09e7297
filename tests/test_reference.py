from __future__ import annotations

from pathlib import Path

from buffycoat.reference import configuration_page, tables, tables_page


def test_the_pages_in_docs_are_current(repository: Path) -> None:
    for name, text in (("configuration.md", configuration_page()), ("tables.md", tables_page())):
        assert (repository / "docs" / name).read_text() == text, f"docs/{name} is out of date: run `make docs`"


def test_every_setting_and_column_is_explained() -> None:
    for line in configuration_page().splitlines():
        if line.startswith("| ") and not line.startswith("| setting"):
            assert line.split("|")[-2].strip(), line
    for table in tables():
        assert all(column.meaning for column in table.columns)
