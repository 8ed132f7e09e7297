from __future__ import annotations

from collections import Counter

import pytest

from buffycoat.index.classes import Reading, fault_of, read_labels
from buffycoat.index.lists import Kind
from buffycoat.index.settings import MakeLabels


def read(labels: dict[str, int], kind: Kind = "table", **settings: object) -> Reading:
    return read_labels(kind, MakeLabels.model_validate(settings), Counter(labels))


def classes(labels: dict[str, int], **settings: object) -> dict[str, str]:
    reading = read(labels, **settings)
    return {label: reading.class_of(label) for label in labels}


def fault(labels: dict[str, int], **settings: object) -> str:
    reading = read(labels, **settings)
    counts: Counter[str] = Counter()
    for label, count in labels.items():
        if not reading.is_left_out(label):
            counts[reading.class_of(label)] += count
    return fault_of(reading, counts)


def test_names_become_codes_where_all_can_and_it_is_said() -> None:
    labels = {"Segmented neutrophils": 5, "lymphocyte, variant": 4, "MONOCYTE": 3, "LY": 2}
    reading = read(labels)
    assert reading.codes == ["LY", "MO", "SNE", "VLY"]
    assert [reading.class_of(label) for label in labels] == ["SNE", "VLY", "MO", "LY"]
    assert any("lymphocyte, variant = VLY" in note and "names: never keeps them" in note for note in reading.notes)
    assert reading.class_of("Lymphocytes") == "LY", "also of a test image, spelled otherwise"
    assert reading.class_of("basophil") == "basophil", "what test images alone hold is no class"


@pytest.mark.parametrize(
    "labels",
    [
        {"neutrophil": 9, "lymphocyte": 9, "platelet": 9},
        {"neutrophil": 9, "segmented neutrophil": 9, "lymphocyte": 9},
        {"atypical lymphocyte": 9, "reactive lymphocyte": 9},
    ],
    ids=["one is no name", "two would be one class", "synonyms that were told apart"],
)
def test_otherwise_labels_stay_classes_of_their_own(labels: dict[str, int]) -> None:
    reading = read(labels)
    assert reading.codes == sorted(labels)
    assert any("names of codes are not taken for them" in note for note in reading.notes)


def test_the_user_has_the_say_about_names() -> None:
    labels = {"neutrophil": 9, "lymphocyte": 9, "platelet": 9}
    assert read(labels, names="always").codes == ["LY", "SNE", "platelet"]
    assert read({"neutrophil": 9, "lymphocyte": 9}, names="never").codes == ["lymphocyte", "neutrophil"]
    assert classes({"Neutrophil": 9, "lymphocyte": 9}, classes=["neutrophil", "LY"]) == {
        "Neutrophil": "neutrophil", "lymphocyte": "LY",
    }  # fmt: skip
    assert classes({"neutrophil": 9, "MO": 9}, label_aliases={"NEUTROPHIL": "BNE"}) == {"neutrophil": "BNE", "MO": "MO"}


def test_case_does_not_count_and_is_said() -> None:
    reading = read({"SNE": 30, "sne": 2, "LY": 30, "odd": 1})
    assert reading.codes == ["LY", "SNE"] and reading.class_of("sne") == "SNE"
    assert any("sne = SNE" in note for note in reading.notes)
    own = read({"Hem": 3, "hem": 40, "ALL_": 20})
    assert own.codes == ["ALL_", "hem"] and own.class_of("Hem") == "hem"
    assert read({"A": 3, "a": 4}, classes=["A", "a"]).class_of("a") == "a", "unless both are named"
    assert read({"ly": 5, "mo": 5}).codes == ["LY", "MO"]
    assert read({"eo": 5, "ig": 5}).codes == ["eo", "ig"], "one code by case alone makes no nomenclature"


def test_labels_of_no_class_stop_the_run_where_they_are_many() -> None:
    assert fault({"SNE": 60, "LY": 36, "SNEE": 4}) == ""
    found = fault({"SNE": 50, "LY": 36, "SNEE": 9, "lymphocytt": 5, "ALIEN": 2})
    assert "16 of 102" in found and "'SNEE' (9, did you mean SNE?)" in found
    assert "'lymphocytt' (5, did you mean LY?)" in found and "'ALIEN' (2)" in found
    assert "index.make_labels.label_aliases (null leaves them out)" in found
    assert fault({"SNE": 50, "LY": 36, "ALIEN": 40}, label_aliases={"alien": None}) == ""
    assert fault({"SNE": 50, "LY": 36, "ALIEN": 40}, classes=["SNE", "LY", "ALIEN"]) == ""


def test_an_alias_that_leads_to_no_class_is_seen() -> None:
    labels = {"neutrophil": 44, "LY": 50, "monocyte": 56}
    assert "'NEUT' (44" in fault(labels, label_aliases={"neutrophil": "NEUT"})
    assert any("is labelled neutrofil" in note for note in read(labels, label_aliases={"neutrofil": "SNE"}).notes)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "no training image has a label"),
        ({"SNE": 100}, "all labelled training images are of one class, SNE"),
        ({"SNE": 100, "ALIEN": 1}, "1 of 101"),
    ],
)
def test_fewer_than_two_classes_are_no_classifier(labels: dict[str, int], message: str) -> None:
    assert message in fault(labels)


def test_a_rare_class_of_nearly_the_same_name_is_pointed_out() -> None:
    reading = read({"blast like": 200, "blast likee": 2, "smudge": 60})
    assert any("'blast likee' (2) is much like 'blast like' (200)" in note for note in reading.notes)


def test_the_challenge_keeps_its_thirteen() -> None:
    assert len(read({"SNE": 3, "LY": 2}, "wbcbench").codes) == 13


def test_gaps_of_r_and_pandas_are_no_classes() -> None:
    labels = {"neutrophil": 60, "lymphocyte": 38, "NA": 2}
    reading = read(labels)
    assert reading.codes == ["LY", "SNE"] and fault(labels) == ""
    assert any("NA (2) reads like a gap and is no class" in note for note in reading.notes)
    assert "'NA' (20)" in fault({**labels, "NA": 20}) and fault({**labels, "NA": 20}, label_aliases={"NA": None}) == ""
    assert read(labels, classes=["NA", "neutrophil", "lymphocyte"]).class_of("NA") == "NA"
