from __future__ import annotations

import json

import numpy as np
import pytest

from buffycoat.refine.algorithm import (
    Entry,
    Evidence,
    Outcome,
    apply_rules,
    explain,
    explain_near_miss,
    near_misses,
    traced_rows,
)
from tests.refine.cases import PC, PLY, cell, together

RESCUED = cell({"LY": 0.55, "PLY": 0.0041, "PC": 1e-6}, {"PLY": 0.82}, spikiness=1.52)
PLASMA = cell({"VLY": 0.7, "PC": 0.001}, {"PC": 0.4}, nucleus_offset_radii=0.5)


def traced(evidence: Evidence) -> tuple[Outcome, list[Entry]]:
    outcome = apply_rules(evidence, [PLY, PC])
    return outcome, dict(traced_rows(outcome)).get(0, [])


def sentence(evidence: Evidence) -> str:
    outcome, trace = traced(evidence)
    return explain(str(outcome.base[0]), str(outcome.label[0]), trace)


def test_a_candidate_carries_value_threshold_and_verdict() -> None:
    _, trace = traced(RESCUED)
    assert trace == [
        {
            "rule": "PLY",
            "host": "LY",
            "phase_1": {"value": 0.615, "threshold": 0.55, "pass": True},
            "phase_2": {"value": 0.82, "threshold": 0.35, "pass": True},
            "phase_3": {
                "host": {"value": "LY", "allowed": ["LY"], "pass": True},
                "host_probability": {"value": 0.55, "threshold": 0.8, "pass": True},
                "spikiness": {"value": 1.52, "threshold": 1.35, "pass": True},
            },
            "verdict": "rescued",
        }
    ]


def test_what_is_no_candidate_has_no_trace() -> None:
    assert traced(cell({"LY": 0.9}, {}))[1] == []
    assert dict(traced_rows(apply_rules(RESCUED, []))) == {}


def test_phases_that_were_not_reached_are_null() -> None:
    (entry,) = traced(cell({"LY": 0.5, "PLY": 0.01}, {"PLY": 0.2}))[1]
    assert (entry["phase_3"], entry["verdict"]) == (None, "refused in phase 2")
    assert entry["phase_2"] == {"value": 0.2, "threshold": 0.35, "pass": False}


def test_a_missing_embedding_is_recorded_as_a_null() -> None:
    (entry,) = traced(cell({"LY": 0.5, "PLY": 0.01}, None))[1]
    assert entry["phase_2"] == {"value": None, "threshold": 0.35, "pass": False}
    assert entry["verdict"] == "refused in phase 2"


def test_a_wrong_host_is_told_and_no_more() -> None:
    (entry,) = traced(cell({"SNE": 0.5, "PLY": 0.01}, {"PLY": 0.9}))[1]
    assert entry["phase_3"] == {"host": {"value": "SNE", "allowed": ["LY"], "pass": False}}


def test_both_rules_passed_and_the_first_one_counts() -> None:
    _, trace = traced(cell({"LY": 0.5, "PLY": 0.01, "PC": 0.01}, {"PLY": 0.9, "PC": 0.1}))
    assert [entry["verdict"] for entry in trace] == ["rescued", "passed, but PLY comes first"]


def test_a_suppressed_base_label_is_traced_though_it_is_no_candidate() -> None:
    timid = PLY.model_copy(update={"rule": PLY.rule.model_copy(update={"beta": 0.5})})
    outcome = apply_rules(cell({"PLY": 0.6, "LY": 0.4}, {"PLY": 0.9}), [timid])
    ((_, (entry,)),) = traced_rows(outcome)
    assert (entry["verdict"], entry["phase_2"]) == ("refused in phase 1", None)
    assert explain("PLY", "LY", [entry]) == (
        "Relabelled PLY → LY: PLY is given only with evidence, and the boosted probability 0.3 is not above 0.4."
    )


def test_rows_keep_their_numbers_and_json_has_no_gaps_of_its_own() -> None:
    cells = together(
        [cell({"SNE": 1.0}, {}), RESCUED, cell({"LY": 0.6, "PC": 0.1}, {"PC": 0.5}, area_px=np.nan), PLASMA]
    )
    found = dict(traced_rows(apply_rules(cells, [PLY, PC])))
    assert sorted(found) == [1, 2, 3]
    assert json.loads(json.dumps(found[2], allow_nan=False))[0]["phase_3"]["area_px"] == {
        "value": None,
        "low": -1.0,
        "high": 1.5,
        "pass": False,
    }


def test_the_sentence_of_a_prolymphocyte() -> None:
    assert sentence(RESCUED) == (
        "Relabelled LY → PLY: boosted probability 0.615 > 0.55; the embedding branch gives PLY 0.82 > 0.35;"
        " the probability of LY is only 0.55 < 0.8; contour spikiness 1.52 > 1.35."
    )


def test_the_sentence_of_a_plasma_cell() -> None:
    assert sentence(PLASMA) == (
        "Relabelled VLY → PC: boosted probability 3.75 > 0.7; the embedding branch gives PC 0.4 > 0.01;"
        " distance 0.5 from the reference of PC <= 1; size, grey levels, colour and nucleus within the fitted ranges."
    )


def test_a_sentence_of_a_rescued_class_that_takes_over_from_another() -> None:
    taken = cell({"PC": 0.5, "LY": 0.45, "PLY": 0.05}, {"PLY": 0.9})
    assert sentence(taken).startswith("Relabelled PC → PLY: boosted probability 7.5 > 0.45;")


@pytest.mark.parametrize(
    ("evidence", "why"),
    [
        (cell({"PLY": 0.6, "LY": 0.4}, {"PLY": 0.1}), "the embedding branch gives PLY 0.1, not above 0.35"),
        (cell({"PLY": 0.6, "LY": 0.4}, None), "the cell has no embedding"),
        (cell({"PLY": 0.6, "SNE": 0.4}, {"PLY": 0.9}), "SNE is not a class that PLY hides in"),
        (cell({"PLY": 0.6, "LY": 0.4}, {"PLY": 0.9}, spikiness=1.2), "the contour spikiness 1.2 is not above 1.35"),
        (cell({"PLY": 0.6, "LY": 0.4}, {"PLY": 0.9}, spikiness=np.nan), "spikiness could not be measured"),
        (cell({"PC": 0.6, "LY": 0.4}, {"PC": 0.9}, area_px=9.0), "the area 9 is not within -1 to 1.5"),
        (cell({"PC": 0.6, "LY": 0.4}, {"PC": 0.9}, area_px=np.nan), "the area could not be measured"),
        (
            cell({"PC": 0.6, "LY": 0.4}, {"PC": 0.9}, nucleus_offset_radii=5.0),
            "the distance 5 from the reference of PC is above 2",
        ),
        (
            cell({"PC": 0.6, "LY": 0.4}, {"PC": 0.9}, cytoplasm_level=np.nan),
            "the distance from the reference could not be measured",
        ),
    ],
)
def test_the_sentence_of_a_suppressed_label_names_what_was_lacking(evidence: Evidence, why: str) -> None:
    rescued = "PC" if "PC" in why or "area" in why or "reference" in why else "PLY"
    host = "SNE" if "SNE" in why else "LY"
    assert sentence(evidence) == f"Relabelled {rescued} → {host}: {rescued} is given only with evidence, and {why}."


def test_a_host_that_is_too_probable_is_named() -> None:
    strict = PLY.model_copy(update={"rule": PLY.rule.model_copy(update={"max_host_probability": 0.3})})
    outcome = apply_rules(cell({"PLY": 0.6, "LY": 0.4}, {"PLY": 0.9}), [strict])
    ((_, trace),) = traced_rows(outcome)
    assert explain("PLY", "LY", trace).endswith("and the probability of LY, 0.4, is not below 0.3.")


def test_nothing_is_said_where_nothing_changed() -> None:
    assert sentence(cell({"PLY": 0.6, "LY": 0.4}, {"PLY": 0.9})) == ""
    assert sentence(cell({"LY": 0.5, "PLY": 0.01}, {"PLY": 0.2})) == ""


NEAR = {
    "branch B is not sure": (
        cell({"LY": 0.55, "PLY": 0.0041}, {"PLY": 0.3}, spikiness=1.52),
        "Nearly PLY, but the embedding branch gives PLY 0.3, not above 0.35.",
    ),
    "the contour is round": (
        cell({"LY": 0.55, "PLY": 0.0041}, {"PLY": 0.82}, spikiness=1.2),
        "Nearly PLY, but the contour spikiness 1.2 is not above 1.35.",
    ),
}


@pytest.mark.parametrize("name", NEAR)
def test_a_near_miss_is_lost_by_one_check_alone_and_says_which(name: str) -> None:
    evidence, words = NEAR[name]
    ((row, entry),) = near_misses(apply_rules(evidence, [PLY]))
    assert (row, explain_near_miss(entry)) == (0, words)


@pytest.mark.parametrize(
    "evidence",
    [
        RESCUED,
        cell({"LY": 0.9}, {"PLY": 0.9}, spikiness=1.52),
        cell({"LY": 0.55, "PLY": 0.0041}, {"PLY": 0.3}, spikiness=1.2),
        cell({"LY": 0.55, "PLY": 0.0041}, None, spikiness=1.2),
        cell({"SNE": 0.5, "PLY": 0.01}, {"PLY": 0.9}, spikiness=1.52),
    ],
    ids=["rescued", "no candidate", "two checks against", "no embedding and another check against", "another host"],
)
def test_what_is_no_near_miss(evidence: Evidence) -> None:
    assert list(near_misses(apply_rules(evidence, [PLY]))) == []


def test_a_cell_is_a_near_miss_of_the_first_such_rule_and_not_where_another_rescues_it() -> None:
    other = PLY.model_copy(update={"rule": PLY.rule.model_copy(update={"rescued": "SNE", "tau": 0.5})})
    both = cell({"LY": 0.55, "PLY": 0.0041, "SNE": 0.0041}, {"PLY": 0.3, "SNE": 0.4}, spikiness=1.52)
    assert [entry["rule"] for _, entry in near_misses(apply_rules(both, [PLY, other]))] == ["PLY"]
    assert [entry["rule"] for _, entry in near_misses(apply_rules(both, [other, PLY]))] == ["SNE"]
    rescued = cell({"LY": 0.55, "PLY": 0.0041, "SNE": 0.0041}, {"PLY": 0.3, "SNE": 0.6}, spikiness=1.52)
    assert list(near_misses(apply_rules(rescued, [PLY, other]))) == []
