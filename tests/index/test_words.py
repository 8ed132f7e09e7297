from __future__ import annotations

import pytest

from buffycoat.data.cell_types import CELL_TYPES
from buffycoat.index.words import box_columns, cell_type_of, held_column, likely_columns, part_of


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("train", "train TRAIN Training fit train_set TrainSet trainset train1 training_images"),
        ("val", "val Valid VALIDATION dev validation-set val_2"),
        ("test", "test TEST Testing TestA test_set holdout hold-out Hold_Out held-out testset TEST_SIMPLE phase2_test"),
        (None, "external train_hard train_test train/val 0 fold_1 a invalid A/B pbc eval"),
    ],
)
def test_parts_of_a_data_set_are_understood_in_every_usual_spelling(part: str | None, names: str) -> None:
    found = {name: part_of(name) for name in names.split()}
    assert set(found.values()) == {part}, found


def test_words_with_blanks_are_words() -> None:
    assert [part_of(name) for name in ("hold out", "Test Set 2", "the rest")] == ["test", "test", None]


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("SNE", "neutrophil|NEUTROPHILS|Segmented neutrophils|seg|Segs|neutrophil, segmented|segmented_neutrophil|PMN"),
        ("BNE", "band|Bands|band-neutrophils|stab cells|Neutrophil (band form)"),
        ("LY", "lymphocyte|Lymphocytes|lymph|typical lymphocyte|LYMPHO"),
        ("VLY", "lymphocyte, variant|Atypical_lymphocytes|reactive lymphocyte|variant-lymphocyte"),
        ("PC", "plasma cell|Plasma cells|plasmacyte|pc"),
        ("BL", "blast|Blasts|blast cell"),
        ("EO", "eosinophil|eos|Eosinophilic granulocyte"),
        (None, "erythroblast|ig|platelet|normal|myeloblast|smudge|1||lymphocyte and monocyte|all"),
    ],
)
def test_plain_names_of_the_thirteen_are_known(code: str | None, names: str) -> None:
    found = {name: cell_type_of(name) for name in names.split("|")}
    assert set(found.values()) == {code}, found


def test_every_code_and_full_name_is_its_own() -> None:
    assert all(cell_type_of(code) == cell_type_of(code.lower()) == code for code in CELL_TYPES)
    assert all(cell_type_of(name) == cell_type_of(f"{name.title()}s") == code for code, name in CELL_TYPES.items())


def test_columns_are_found_whatever_their_case_where_that_is_clear() -> None:
    assert held_column(["Image", "label"], "image") == "Image"
    assert held_column(["Image", "image"], "image") == "image"
    assert held_column(["Image", "IMAGE"], "image") is None
    assert likely_columns(["Patient ID", "x", "slide_id"], "group") == ["Patient ID", "slide_id"]


def test_boxes_are_seen_by_their_columns() -> None:
    assert box_columns(["image", "label", "xmin", "xmax", "ymin", "ymax"]) == ["xmin", "xmax", "ymin", "ymax"]
    assert box_columns(["bbox_x", "bbox_y", "bbox_width", "bbox_height"]) != []
    assert box_columns(["image", "x", "y", "width_um"]) == []
