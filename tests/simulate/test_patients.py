from __future__ import annotations

import pandas as pd
import pytest

from buffycoat.data.cell_types import CELL_TYPES
from buffycoat.data.degradations import DEGRADATIONS
from buffycoat.simulate.draw_smears import COUNTS, class_counts, patients_per_part, plan_dataset


@pytest.fixture(scope="module")
def plan() -> pd.DataFrame:
    return plan_dataset(3000, 60, 6, 1)


def test_the_counts_are_the_challenges() -> None:
    # Totals of phase 1, train and eval as published (arXiv 2604.10797).
    assert [sum(part.values()) for part in COUNTS.values()] == [8288, 24897, 5350]


def test_at_full_size_every_labelled_part_is_as_published() -> None:
    full = class_counts(55_012, 1)
    assert {part: full[part] for part in COUNTS} == COUNTS
    assert sum(sum(part.values()) for part in full.values()) == pytest.approx(55_012, abs=13)


@pytest.mark.parametrize("images", [60, 500, 3000])
@pytest.mark.parametrize("least", [1, 6])
def test_no_class_falls_below_its_least(images: int, least: int) -> None:
    counts = class_counts(images, least)
    for part, floor in {
        "train": least,
        "test": least,
        "phase1": max(1, least // 3),
        "eval": max(1, least // 3),
    }.items():
        assert list(counts[part]) == list(CELL_TYPES)
        assert min(counts[part].values()) == floor
    share = counts["train"]["SNE"] / sum(counts["train"].values())
    assert share <= 11135 / 24897 + 0.03


def test_the_plan_has_the_counts(plan: pd.DataFrame) -> None:
    found = pd.crosstab(plan["label"], plan["part"])
    for part, counts in class_counts(3000, 6).items():
        assert found[part].to_dict() == counts


def test_no_patient_is_in_two_parts(plan: pd.DataFrame) -> None:
    assert plan.groupby("patient")["part"].nunique().max() == 1
    assert plan["patient"].nunique() <= sum(patients_per_part(60).values())


def test_names_are_unique_and_ascend_along_the_lists(plan: pd.DataFrame) -> None:
    assert plan["ID"].str.fullmatch(r"\d{8}\.jpg").all()
    assert plan["ID"].is_monotonic_increasing and plan["ID"].is_unique


def test_the_lists_run_patient_by_patient_and_nearly_by_class(plan: pd.DataFrame) -> None:
    assert (plan["patient"] != plan["patient"].shift()).sum() == plan["patient"].nunique()
    same = plan["patient"] == plan["patient"].shift()
    back = same & (plan["label"] < plan["label"].shift())
    assert 0 < back.sum() < 0.05 * len(plan)


def test_the_rarest_classes_are_held_by_few_patients() -> None:
    full = plan_dataset(55_012, 493, 1, 1)
    labelled = full[full["part"] != "test"]
    holders = labelled.groupby("label")["patient"].nunique()
    assert holders["PLY"] <= holders["PC"] < 0.1 * labelled["patient"].nunique()
    assert holders["SNE"] > 0.8 * labelled["patient"].nunique()


def test_phase_1_is_pristine_and_each_part_of_phase_2_has_its_own_mix(plan: pd.DataFrame) -> None:
    assert set(plan.loc[plan["part"] == "phase1", "kind"]) == {"none"}
    spoilt = plan[plan["part"] != "phase1"]
    assert set(spoilt["kind"]) == {"none", *DEGRADATIONS}
    assert (spoilt["severity"] == 0).equals(spoilt["kind"] == "none")
    assert set(spoilt["severity"]) == {0, 1, 2, 3, 4}
    clean = (spoilt["kind"] == "none").groupby(spoilt["part"]).mean()
    assert clean["train"] > clean["test"]


def test_the_plan_depends_on_the_seed_alone(plan: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(plan, plan_dataset(3000, 60, 6, 1))
    assert not plan.equals(plan_dataset(3000, 60, 6, 2))
