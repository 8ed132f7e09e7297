from __future__ import annotations

import numpy as np
import pandas as pd

from buffycoat.data.labels import clusters_of, rows_of_parts
from buffycoat.report.score_labels import PHASES, part_of


def rows(groups: list[str | None]) -> pd.DataFrame:
    ids = [f"{k}" for k in range(len(groups))]
    return pd.DataFrame({"image_id": pd.Series(ids, dtype="str"), "group": pd.Series(groups, dtype="str")})


def test_cells_of_a_patient_are_one_cluster() -> None:
    numbers, units = clusters_of(rows(["a", "b", "a", "b", "c"]))
    assert numbers.tolist() == [0, 1, 0, 1, 2] and units == "patients"


def test_without_patients_every_image_is_a_cluster() -> None:
    numbers, units = clusters_of(rows([None] * 4))
    assert numbers.tolist() == [0, 1, 2, 3] and units == "images"


def test_known_patients_stay_together_beside_unknown_ones() -> None:
    # A patient has the name of the fourth image: they are still two clusters.
    numbers, units = clusters_of(rows(["3", None, "3", None]))
    assert numbers.tolist() == [0, 1, 0, 2] and "where known" in units


def test_a_part_numbers_the_classes_in_their_order() -> None:
    frame = rows(["a", "a"]).assign(true=["SNE", "LY"], **{column: ["LY", "SNE"] for column in PHASES.values()})
    part = part_of("test", frame, ["LY", "PC", "SNE"])
    assert part.true.tolist() == [2, 0]
    assert all(np.array_equal(guessed, [0, 2]) for guessed in part.predicted.values()) and len(part.predicted) == 6


def test_training_images_are_scored_by_their_own_label_and_test_images_by_the_answers() -> None:
    frame = pd.DataFrame({"image_id": ["a", "b", "c"], "role": ["train", "test", "test"], "answer": [None, "LY", None]})
    images = pd.DataFrame({"image_id": ["a", "b", "c"], "label": ["PC", None, None]})
    folds = pd.DataFrame({"image_id": ["a"], "fold": [0]})
    parts = rows_of_parts(frame, images, folds)
    assert parts["out_of_fold"]["true"].tolist() == ["PC"]
    assert parts["test"]["image_id"].tolist() == ["b"] and parts["test"]["true"].tolist() == ["LY"]
    assert list(rows_of_parts(frame.assign(answer=None), images, folds)) == ["out_of_fold"]
