from __future__ import annotations

import numpy as np
import pytest

from buffycoat.refine import fit_rules as module
from buffycoat.refine.fit_rules import find_rules, hosts_of, rare_classes
from buffycoat.refine.fitting import Training
from tests.refine.cases import CLASSES
from tests.refine.test_fitting import training

COUNTS = {"LY": 700, "SNE": 250, "PC": 20, "PLY": 10, "VLY": 20}


def mistaken_for(cells: Training, code: str, hosts: list[str]) -> Training:
    """Let branch A give the cells of a class to hosts, in turn."""
    rows = np.flatnonzero(cells.labels == code)
    cells.evidence.p[rows] = 0.01
    cells.evidence.p[rows, [CLASSES.index(hosts[number % len(hosts)]) for number in range(len(rows))]] = 0.9
    return cells


def test_rare_classes_come_rarest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = training(COUNTS)
    assert rare_classes(cells) == ["PLY", "PC", "VLY"]
    assert rare_classes(training({**COUNTS, "PLY": 0})) == ["PC", "VLY"]
    monkeypatch.setattr(module, "RARE_BELOW", 0.015)
    assert rare_classes(cells) == ["PLY"]


def test_a_class_hides_where_branch_a_puts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = mistaken_for(training(COUNTS), "PC", ["LY", "LY", "LY", "VLY"])
    assert hosts_of(cells, "PC") == ("LY", "VLY")
    monkeypatch.setattr(module, "HOST_SHARE", 0.5)
    assert hosts_of(cells, "PC") == ("LY",)


def test_a_class_that_is_never_mistaken_needs_no_rule() -> None:
    cells = mistaken_for(training(COUNTS), "PC", ["PC"])
    assert [rule.rescued for rule in find_rules(cells)] == ["PLY"]


def test_found_rules_only_add() -> None:
    rules = find_rules(mistaken_for(training(COUNTS), "PC", ["LY"]))
    assert [(rule.rescued, rule.hides_in) for rule in rules] == [("PLY", ("LY",)), ("PC", ("LY",))]
    assert not any(rule.suppress for rule in rules)


def test_rare_classes_may_hide_in_each_other() -> None:
    rules = find_rules(mistaken_for(training(COUNTS), "PC", ["VLY"]))
    assert {rule.rescued: rule.hides_in for rule in rules}["PC"] == ("VLY",)
