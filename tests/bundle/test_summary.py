"""What the command says of a model and of its labels."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from buffycoat.bundle.form import Manifest
from buffycoat.bundle.summary import counted, score_line, suspicions_line
from tests.bundle.test_form import CONTENT

ROW = {"part": "test", "class": "all", "metric": "macro_f1", "value": 0.71, "low": 0.6, "high": 0.8, "support": 63}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([ROW], "this model's macro-F1 on its 63 test images was 0.710 [0.600, 0.800]; chance is 0.500 (2 classes)"),
        ([{**ROW, "low": 0.4}], "chance is 0.500 (2 classes); no better than chance: do not use its labels"),
        ([{**ROW, "low": None, "high": None}], "test images was 0.710; chance is 0.500 (2 classes)"),
        ([{**ROW, "part": "out_of_fold"}, {**ROW, "metric": "x"}], "its 63 training images, out of fold was 0.710"),
        ([{**ROW, "part": "out_of_fold", "value": 0.1}, ROW], "on its 63 test images was 0.710"),
        ([{**ROW, "value": None}], "this model's own score is not known"),
        ([], "this model's own score is not known"),
    ],
)
def test_the_score_stands_beside_that_of_chance(rows: list[dict[str, Any]], expected: str) -> None:
    manifest = Manifest.model_validate({**CONTENT, "files": {}, "scores": {"table": rows}})
    assert expected in score_line(manifest)


def test_classes_have_their_names_and_those_of_one_s_own_one_name() -> None:
    table = pd.DataFrame({"label": ["LY", "mine", "LY", None]})
    assert counted(table, {"LY": "lymphocyte", "mine": "mine"}) == "LY lymphocyte 2, mine 1"
    assert counted(table.tail(1), {}) == "none"


def test_suspicions_are_counted_by_kind() -> None:
    table = pd.DataFrame({"suspect": [True, True, False], "kinds": ["no_cell,energy", "energy", ""]})
    assert suspicions_line(table) == "2 to look at (column suspect): energy 2, no cell 1"
    assert suspicions_line(table.tail(1)) == "0 to look at (column suspect)"
