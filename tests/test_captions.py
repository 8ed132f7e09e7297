from __future__ import annotations

from buffycoat.captions import shown_as


def test_a_file_is_shown_by_its_name_and_a_folder_by_its_files() -> None:
    assert shown_as("results/8_report/suspects.csv", None) == {
        "caption": "../report/suspects.rst", "labels": {"file": "suspects.csv"}, "patterns": [],
    }  # fmt: skip
    assert shown_as("results/8_report/figures", "{file}.png") == {
        "caption": "../report/figures.rst", "labels": {"file": "{file}"}, "patterns": ["{file}.png"],
    }  # fmt: skip
