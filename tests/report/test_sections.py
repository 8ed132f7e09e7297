from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from buffycoat.report.sections import each_fold, fold_table, uncertain_cells, verdict, wrong_cells
from buffycoat.report.write_predictions import write_submission
from buffycoat.report.write_report import recovered_patients, version_of, without_folders
from buffycoat.stats.scores import OVERALL

CODES = ["LY", "PC"]


class NoPictures:
    """Stands for the cells where a test looks at the choice alone."""

    def card(self, image_id: str, side: int) -> str:
        return f"{image_id} {side}"


def table(chances: list[float], labels: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a table of labels and branch A's probabilities; `chances` are those of LY."""
    ids = [f"{k}" for k in range(len(labels))]
    frame = pd.DataFrame({"image_id": ids, "label": labels, "base_label": "LY", "changed": False, "reason": ""})
    return frame, pd.DataFrame({"LY": chances, "PC": 1 - np.array(chances)}, index=ids)


def choose(
    function: object, labels: pd.DataFrame, known: pd.Series, branch_a: pd.DataFrame, most: int = 9
) -> list[str]:
    found = function(labels, known, branch_a, CODES, NoPictures(), most, 40)  # type: ignore[operator]
    return [f"{cell['image_id']}:{cell['expert']}:{cell['label']}:{cell['chance']}" for cell in found]


def test_wrong_cells_are_the_most_confident_two_of_a_pair() -> None:
    labels, branch_a = table([0.6, 0.9, 0.8, 0.7, 0.4], ["LY", "LY", "LY", "LY", "PC"])
    known = pd.Series({"0": "PC", "1": "PC", "2": "PC", "3": "LY", "4": "LY"})
    assert choose(wrong_cells, labels, known, branch_a) == ["1:PC:LY:0.90", "2:PC:LY:0.80", "4:LY:PC:0.60"]
    assert choose(wrong_cells, labels, known, branch_a, most=1) == ["1:PC:LY:0.90"]
    assert choose(wrong_cells, labels, pd.Series(dtype=object), branch_a) == []


def test_a_wrong_cell_shows_the_probability_of_the_label_it_was_given() -> None:
    # Refinement turned a confident LY into PC: branch A's 0.9 was for LY.
    labels, branch_a = table([0.9], ["PC"])
    assert choose(wrong_cells, labels, pd.Series({"0": "LY"}), branch_a) == ["0:LY:PC:0.10"]


def test_uncertain_cells_need_no_expert() -> None:
    labels, branch_a = table([0.9, 0.55, 0.45], ["LY", "LY", "PC"])
    chosen = choose(uncertain_cells, labels, pd.Series({"2": "PC"}), branch_a, most=2)
    assert chosen == ["1:unknown:LY:0.55", "2:PC:PC:0.55"]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.01, 0.02, "raised"), (-0.2, -0.1, "lowered"), (-0.1, 0.1, "chance"), (0, 0, "no diff")],
)
def test_the_verdict_follows_the_interval(low: float, high: float, words: str) -> None:
    assert words in verdict({"macro_f1": (low + high) / 2, "low": low, "high": high})


def test_folds_are_told_in_numerical_order_with_mean_and_spread() -> None:
    rows = [
        {"phase": phase, "part": f"fold_{fold}", "class": "all", "metric": name, "value": fold / 20, "low": np.nan,
         "high": np.nan, "support": 7}
        for fold in (10, 2) for phase in ("branch_a", "phase_3") for name in OVERALL
    ]  # fmt: skip
    metrics = pd.DataFrame(rows)
    assert [(row["fold"], row["macro_f1"]) for row in each_fold(metrics)] == [("2", "0.1000"), ("10", "0.5000")]
    assert fold_table(metrics)[0]["folds"] == "0.3000 ± 0.2828"
    assert fold_table(metrics[metrics["part"] == "fold_2"])[0]["folds"] == "0.1000"


def test_a_page_names_no_folder_of_its_maker() -> None:
    given = {"a": {"root": "/home/me/smears"}, "b": ["C:\\data\\x.csv", "../x.csv", 3], "c": None}
    assert without_folders(given) == {"a": {"root": ".../smears"}, "b": [".../x.csv", "../x.csv", 3], "c": None}


def test_a_package_that_is_absent_is_said() -> None:
    assert version_of("numpy") == np.__version__
    assert "not installed" in version_of("no-such-package-of-ours")


def test_recovered_patients_are_told_from_given_ones() -> None:
    assert recovered_patients({"index": {"make_labels": {"groups": "pseudo_patients"}}})
    assert not recovered_patients({"index": {"make_labels": {"groups": "given"}}}) and not recovered_patients({})


def test_the_submission_keeps_ids_and_warns_of_formulas(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_submission([("=1+1.png", "LY"), ("b,c.png", "PC")], tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text() == 'ID,labels\n=1+1.png,LY\n"b,c.png",PC\n'
    assert "1 IDs or labels begin as a formula" in caplog.text
    caplog.clear()
    write_submission([("b.png", "LY")], tmp_path / "s.csv")
    assert not caplog.text
