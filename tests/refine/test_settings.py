from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from buffycoat.refine.settings import PLASMA_CELL, PROLYMPHOCYTE, FitRules, Refine, Rule


def test_the_preset_holds_the_constants_of_the_paper() -> None:
    preset = yaml.safe_load((Path(__file__).parents[2] / "workflow/presets/paper.yaml").read_text())
    rules = FitRules.model_validate(preset["refine"]["fit_rules"]).rules
    assert rules == (PROLYMPHOCYTE, PLASMA_CELL)
    ply, pc = PROLYMPHOCYTE, PLASMA_CELL
    assert ply.suppress and pc.suppress
    assert (ply.rescued, ply.hides_in, ply.beta, ply.tau) == ("PLY", ("LY",), 150, 0.35)
    assert (ply.max_host_probability, ply.min_spikiness, ply.gates) == (0.8, 1.35, ("spikiness",))
    assert (pc.rescued, pc.hides_in, pc.beta, pc.tau) == ("PC", ("LY", "VLY"), 3750, 0.01)
    assert (pc.max_host_probability, pc.gates) == (1.0, ("box", "mahalanobis"))


def test_settings_survive_json() -> None:
    assert Refine.model_validate(json.loads(Refine().model_dump_json())) == Refine()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hides_in": ["PLY", "LY"]}, "PLY cannot hide in itself"),
        ({"hides_in": []}, "at least 1 item"),
        ({"beta": 0}, "greater than 0"),
        ({"tau": 1}, "less than 1"),
        ({"max_host_probability": 1.2}, "less than or equal to 1"),
        ({"gates": ["colour"]}, "'spikiness', 'box', 'mahalanobis' or 'likeness'"),
        ({"betas": 3}, "Extra inputs"),
    ],
)
def test_a_wrong_rule_is_refused(change: dict[str, Any], message: str) -> None:
    right = {"rescued": "PLY", "hides_in": ["LY"], "beta": 150, "tau": 0.35}
    Rule.model_validate(right)
    with pytest.raises(ValidationError, match=message):
        Rule.model_validate({**right, **change})


def test_rules_must_fit_together() -> None:
    one = Rule(rescued="PC", hides_in=("LY",), beta=2, tau=0)
    with pytest.raises(ValidationError, match="more than one rule rescues PC"):
        FitRules(rules=(one, one))
    with pytest.raises(ValidationError, match="PC is rescued and suppressed, and so cannot be a host"):
        FitRules(rules=(one, Rule(rescued="PLY", hides_in=("PC",), beta=2, tau=0)))
    assert FitRules(rules=()).rules == ()
    added = one.model_copy(update={"suppress": False})
    assert FitRules(rules=(added, Rule(rescued="PLY", hides_in=("PC",), beta=2, tau=0))).rules[0] == added
    with pytest.raises(ValidationError, match="rules that are found have no thresholds of their own"):
        FitRules(thresholds="given")


def test_the_gate_likeness_is_only_ever_fitted() -> None:
    rule = {"rescued": "PC", "hides_in": ["LY"], "beta": 1, "tau": 0, "gates": ["likeness"]}
    with pytest.raises(ValidationError, match="the gate likeness of PC is only ever fitted"):
        FitRules.model_validate({"rules": [rule], "thresholds": "given"})
    assert FitRules.model_validate({"rules": [rule], "thresholds": "fitted"})
