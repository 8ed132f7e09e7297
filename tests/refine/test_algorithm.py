from __future__ import annotations

import numpy as np
import pytest

from buffycoat.refine.algorithm import Evidence, apply_rules, suppress
from buffycoat.refine.rules import BOX_FEATURES, DISTANCE_FEATURES, FittedRule, Reference
from tests.refine.cases import CLASSES, FEATURES, PC, PLY, cell, reference, together

YES = {"PLY": 0.5, "PC": 0.5}
LY_TO_PLY = {"LY": 0.6, "PLY": 0.005}  # 150 * 0.005 = 0.75 > 0.6
LY_TO_PC = {"LY": 0.9, "PC": 0.001}  # 3750 * 0.001 = 3.75 > 0.9


def phases(evidence: Evidence, rules: list[FittedRule]) -> tuple[str, str, str]:
    found = apply_rules(evidence, rules).phases
    return str(found[0][0]), str(found[1][0]), str(found[2][0])


def test_without_rules_every_label_is_the_base_label() -> None:
    outcome = apply_rules(cell({"PC": 0.6, "LY": 0.4}), [])
    assert [outcome.base[0], outcome.suppressed[0], *(labels[0] for labels in outcome.phases)] == ["PC"] * 5
    assert outcome.q[0] == 0.6


@pytest.mark.parametrize(
    ("p", "rescued", "y0", "q"),
    [
        ({"LY": 0.6, "PC": 0.4}, ["PLY", "PC"], "LY", 0.6),
        ({"LY": 0.4, "PC": 0.6}, ["PLY", "PC"], "LY", 0.4),
        ({"LY": 0.1, "PC": 0.6, "PLY": 0.3}, ["PLY", "PC"], "LY", 0.1),
        ({"LY": 0.1, "PC": 0.6, "PLY": 0.3}, ["PC"], "PLY", 0.3),
        ({"PC": 1.0}, ["PLY", "PC"], "LY", 0.0),
        ({"LY": 0.3, "SNE": 0.3, "VLY": 0.3}, ["PLY", "PC"], "LY", 0.3),
    ],
)
def test_suppression(p: dict[str, float], rescued: list[str], y0: str, q: float) -> None:
    labels, probability = suppress(cell(p), rescued)
    assert (labels[0], probability[0]) == (y0, q)


def test_suppression_leaves_the_probabilities_as_they_were() -> None:
    evidence = cell({"LY": 0.4, "PC": 0.6})
    before = evidence.p.copy()
    apply_rules(evidence, [PLY, PC])
    assert np.array_equal(evidence.p, before)


def test_a_prolymphocyte_passes_all_three_phases() -> None:
    assert phases(cell(LY_TO_PLY, YES, spikiness=1.36), [PLY]) == ("PLY", "PLY", "PLY")


@pytest.mark.parametrize(
    ("p", "s", "spikiness", "expected"),
    [
        # Phase 1: 150 * p must exceed q; 1/256 * 150 = 0.5859375 exactly.
        ({"LY": 0.5859375, "PLY": 1 / 256}, YES, 1.5, ("LY", "LY", "LY")),
        ({"LY": 0.5859374, "PLY": 1 / 256}, YES, 1.5, ("PLY", "PLY", "PLY")),
        ({"LY": 0.6, "PLY": 0.0}, YES, 1.5, ("LY", "LY", "LY")),
        # Phase 2: tau itself is not above tau; no embedding is dropped.
        (LY_TO_PLY, {"PLY": 0.35}, 1.5, ("PLY", "LY", "LY")),
        (LY_TO_PLY, {"PLY": 0.350001}, 1.5, ("PLY", "PLY", "PLY")),
        (LY_TO_PLY, None, 1.5, ("PLY", "LY", "LY")),
        # Phase 3: host, host probability, spikiness; equality fails; unmeasured fails.
        ({"SNE": 0.6, "PLY": 0.005}, YES, 1.5, ("PLY", "PLY", "SNE")),
        ({"VLY": 0.6, "PLY": 0.005}, YES, 1.5, ("PLY", "PLY", "VLY")),
        ({"LY": 0.8, "PLY": 0.01}, YES, 1.5, ("PLY", "PLY", "LY")),
        ({"LY": 0.79999, "PLY": 0.01}, YES, 1.5, ("PLY", "PLY", "PLY")),
        (LY_TO_PLY, YES, 1.35, ("PLY", "PLY", "LY")),
        (LY_TO_PLY, YES, 1.350001, ("PLY", "PLY", "PLY")),
        (LY_TO_PLY, YES, np.nan, ("PLY", "PLY", "LY")),
        # The base label is the rescued class: suppressed, then given back only with evidence.
        ({"PLY": 0.9, "LY": 0.1}, YES, 1.5, ("PLY", "PLY", "PLY")),
        ({"PLY": 0.9, "LY": 0.1}, {"PLY": 0.1}, 1.5, ("PLY", "LY", "LY")),
        ({"PLY": 0.9, "SNE": 0.1}, YES, 1.5, ("PLY", "PLY", "SNE")),
    ],
)
def test_each_branch_and_edge_of_prolymphocytes(
    p: dict[str, float], s: dict[str, float] | None, spikiness: float, expected: tuple[str, str, str]
) -> None:
    assert phases(cell(p, s, spikiness=spikiness), [PLY]) == expected


@pytest.mark.parametrize(
    ("p", "s", "features", "expected"),
    [
        (LY_TO_PC, YES, {}, ("PC", "PC", "PC")),
        # Phase 1: 3750 / 4096 = 0.91552734375 exactly.
        ({"LY": 0.91552734375, "PC": 1 / 4096}, YES, {}, ("LY", "LY", "LY")),
        ({"LY": 0.91552734374, "PC": 1 / 4096}, YES, {}, ("PC", "PC", "PC")),
        # Phase 2.
        (LY_TO_PC, {"PC": 0.01}, {}, ("PC", "LY", "LY")),
        (LY_TO_PC, {"PC": 0.0101}, {}, ("PC", "PC", "PC")),
        (LY_TO_PC, None, {}, ("PC", "LY", "LY")),
        # Phase 3: any host probability passes, but only these hosts.
        ({"LY": 1.0, "PC": 0.001}, YES, {}, ("PC", "PC", "PC")),
        ({"VLY": 0.9, "PC": 0.001}, YES, {}, ("PC", "PC", "PC")),
        ({"SNE": 0.9, "PC": 0.001}, YES, {}, ("PC", "PC", "SNE")),
        # The box: its ends belong to it.
        (LY_TO_PC, YES, {"area_px": -1.0}, ("PC", "PC", "PC")),
        (LY_TO_PC, YES, {"area_px": -1.001}, ("PC", "PC", "LY")),
        (LY_TO_PC, YES, {"cell_level_sd": 1.5}, ("PC", "PC", "PC")),
        (LY_TO_PC, YES, {"cell_level_sd": 1.501}, ("PC", "PC", "LY")),
        (LY_TO_PC, YES, {"cell_level_sd": np.nan}, ("PC", "PC", "LY")),
        # The distance: the largest one passes; offset and cytoplasm count there alone.
        (LY_TO_PC, YES, {"nucleus_offset_radii": 2.0}, ("PC", "PC", "PC")),
        (LY_TO_PC, YES, {"nucleus_offset_radii": 2.001}, ("PC", "PC", "LY")),
        (LY_TO_PC, YES, {"cytoplasm_level": 1.4, "nucleus_ratio": 1.4}, ("PC", "PC", "PC")),
        (LY_TO_PC, YES, {"cytoplasm_level": 1.5, "nucleus_ratio": 1.4}, ("PC", "PC", "LY")),
        (LY_TO_PC, YES, {"cytoplasm_level": np.nan}, ("PC", "PC", "LY")),
        # Each host has its own reference: VLY a nearer limit and a wider box.
        ({"VLY": 0.9, "PC": 0.001}, YES, {"nucleus_offset_radii": 1.5}, ("PC", "PC", "VLY")),
        ({"VLY": 0.9, "PC": 0.001}, YES, {"cell_level_sd": 5.0}, ("PC", "PC", "PC")),
        # A contour is not asked for.
        (LY_TO_PC, YES, {"spikiness": np.nan}, ("PC", "PC", "PC")),
        # Suppressed and given back, or not.
        ({"PC": 0.9, "LY": 0.1}, YES, {}, ("PC", "PC", "PC")),
        ({"PC": 0.9, "LY": 0.1}, {"PC": 0.0}, {}, ("PC", "LY", "LY")),
    ],
)
def test_each_branch_and_edge_of_plasma_cells(
    p: dict[str, float], s: dict[str, float] | None, features: dict[str, float], expected: tuple[str, str, str]
) -> None:
    assert phases(cell(p, s, **features), [PC]) == expected


BOTH = {"LY": 0.6, "PLY": 0.01, "PC": 0.01}


@pytest.mark.parametrize(
    ("s", "spikiness", "expected"),
    [
        (YES, 1.5, ("PLY", "PLY", "PLY")),
        # What prolymphocytes lose in phase 2 or 3, plasma cells may take.
        ({"PLY": 0.1, "PC": 0.5}, 1.5, ("PLY", "PC", "PC")),
        (YES, 1.2, ("PLY", "PLY", "PC")),
        ({"PLY": 0.5, "PC": 0.0}, 1.2, ("PLY", "PLY", "LY")),
    ],
)
def test_prolymphocytes_come_before_plasma_cells(
    s: dict[str, float], spikiness: float, expected: tuple[str, str, str]
) -> None:
    assert phases(cell(BOTH, s, spikiness=spikiness), [PLY, PC]) == expected


def test_the_order_is_that_of_the_rules() -> None:
    assert phases(cell(BOTH, YES), [PC, PLY]) == ("PC", "PC", "PC")


def test_a_host_without_a_reference_is_never_passed() -> None:
    only_vly = PC.model_copy(update={"references": {"VLY": reference()}})
    assert phases(cell(LY_TO_PC, YES), [only_vly]) == ("PC", "PC", "LY")


def test_a_rule_that_is_not_used_does_not_suppress() -> None:
    assert phases(cell({"PC": 0.9, "LY": 0.1}, {}), [PLY]) == ("PC", "PC", "PC")


def slow_label(p: dict[str, float], s: dict[str, float], f: dict[str, float], references: dict[str, Reference]) -> str:
    """Algorithm 1 for one cell, written out as the paper tells it."""
    y0 = max((code for code in CLASSES if code not in ("PLY", "PC")), key=lambda code: p[code])
    q = p[y0]
    ply = 150 * p["PLY"] > q and s["PLY"] > 0.35
    if ply and y0 == "LY" and q < 0.8 and f["spikiness"] > 1.35:
        return "PLY"
    if 3750 * p["PC"] > q and s["PC"] > 0.01 and y0 in ("LY", "VLY"):
        r = references[y0]
        inside = all(r.box[name][0] <= f[name] <= r.box[name][1] for name in BOX_FEATURES)
        v = np.array([(f[name] - r.mean[name]) / r.scale[name] for name in DISTANCE_FEATURES])
        if inside and np.sqrt(v @ np.linalg.inv(np.array(r.covariance)) @ v) <= r.max_distance:
            return "PC"
    return y0


def test_many_random_cells_agree_with_the_algorithm_written_out() -> None:
    rng = np.random.default_rng(7)
    n = 4000
    factor = rng.normal(size=(6, 6)) / 3 + np.eye(6)
    skewed = reference(
        mean=dict(zip(DISTANCE_FEATURES, rng.normal(size=6) / 4, strict=True)),
        scale=dict(zip(DISTANCE_FEATURES, rng.uniform(0.5, 2, 6), strict=True)),
        covariance=tuple(tuple(row) for row in (factor @ factor.T).tolist()),
    )
    references = {"LY": reference(), "VLY": skewed}
    evidence = Evidence(
        classes=CLASSES,
        p=rng.dirichlet([0.5, 0.05, 0.3, 0.3, 0.3], n),
        s=rng.dirichlet([0.5] * 5, n),
        features={name: rng.normal(size=n) * 0.6 for name in FEATURES} | {"spikiness": rng.uniform(1, 1.7, n)},
    )
    found = apply_rules(evidence, [PLY, PC.model_copy(update={"references": references})]).label
    expected = [
        slow_label(
            dict(zip(CLASSES, evidence.p[i].tolist(), strict=True)),
            dict(zip(CLASSES, evidence.s[i].tolist(), strict=True)),
            {name: float(values[i]) for name, values in evidence.features.items()},
            references,
        )
        for i in range(n)
    ]
    assert found.tolist() == expected
    assert {code: expected.count(code) > 50 for code in CLASSES} == dict.fromkeys(CLASSES, True)


def test_a_cell_is_judged_alone() -> None:
    cells = [cell(BOTH, YES, spikiness=1.2), cell(LY_TO_PLY, YES), cell(LY_TO_PC, None), cell({"SNE": 1.0}, {})]
    alone = [str(apply_rules(one, [PLY, PC]).label[0]) for one in cells]
    assert apply_rules(together(cells), [PLY, PC]).label.tolist() == alone == ["PC", "PLY", "LY", "SNE"]


def test_no_cells_no_labels() -> None:
    assert apply_rules(together([cell({})]).rows(np.zeros(1, bool)), [PLY, PC]).label.shape == (0,)
