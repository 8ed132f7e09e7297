from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from buffycoat.data.images import decode_image
from buffycoat.simulate.draw_smears import draw_smears
from buffycoat.simulate.settings import DrawSmears

SETTINGS = DrawSmears(images=60, patients=16, least_per_class=1)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def smears(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulate") / "smears"
    draw_smears(smears=folder, seed=1, settings=SETTINGS)
    return folder


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("name", "folder", "header", "split", "tail"),
    [
        ("phase1_label.csv", "phase1", "ID,labels,split,,,", "phase1_train", ",,,"),
        ("phase2_train.csv", "phase2/train", "ID,labels,split", "phase2_train", ""),
        ("phase2_eval.csv", "phase2/eval", "ID,labels,split", "phase2_eval", ""),
    ],
)
def test_labelled_lists_are_as_published(
    smears: Path, name: str, folder: str, header: str, split: str, tail: str
) -> None:
    first, *rows = lines_of(smears / name)
    assert first == header and rows
    assert all(row.endswith(f",{split}{tail}") and row.count(",") == header.count(",") for row in rows)
    assert sorted(row.split(",")[0] for row in rows) == sorted(file.name for file in (smears / folder).iterdir())


def test_the_list_of_test_images_hides_what_the_answers_hold(smears: Path) -> None:
    first, *rows = lines_of(smears / "phase2_test.csv")
    assert first == "ID,labels" and rows and all(row.endswith(".jpg,") for row in rows)
    header, *answers = lines_of(smears / "test_labels.csv")
    assert header == "ID,labels"
    assert [answer.split(",")[0] for answer in answers] == [row[:-1] for row in rows]
    assert all(answer.split(",")[1] for answer in answers)
    assert {row[:-1] for row in rows} == {file.name for file in (smears / "phase2" / "test").iterdir()}


def test_images_are_sound_and_the_truth_covers_each(smears: Path) -> None:
    truth = pd.read_csv(smears / "truth" / "cells.csv")
    images = {file.name: file for part in ("phase1", "phase2") for file in (smears / part).rglob("*.jpg")}
    assert set(truth["ID"]) == set(images)
    for row in truth.to_dict("records"):
        name = Path(str(row["ID"]))
        assert decode_image(images[name.name]).shape == (368, 368, 3)
        mask = cv2.imread(str(smears / "truth" / "masks" / name.with_suffix(".png")), cv2.IMREAD_UNCHANGED)
        assert mask is not None and mask.shape == (368, 368) and set(np.unique(mask)) == {0, 128, 255}
    spoilt = {Path(str(name)).stem for name in truth.loc[truth["kind"] != "none", "ID"]}
    assert spoilt == {file.stem for file in (smears / "truth" / "clean").iterdir()}


def test_a_clean_original_differs_from_what_was_delivered(smears: Path) -> None:
    truth = pd.read_csv(smears / "truth" / "cells.csv").set_index("ID")
    for clean in (smears / "truth" / "clean").iterdir():
        row = truth.loc[f"{clean.stem}.jpg"]
        delivered = decode_image(smears / "phase2" / str(row["part"]) / f"{clean.stem}.jpg")
        apart = np.abs(decode_image(clean).astype(int) - delivered).mean()
        # JPEG alone costs about one grey level; the mildest blur hardly more in an empty field.
        assert apart > 0.8, f"{clean.stem}: {row['kind']} {row['severity']}"


def test_the_same_bytes_whatever_the_number_of_workers(smears: Path, tmp_path: Path) -> None:
    draw_smears(smears=tmp_path / "two", seed=1, threads=2, settings=SETTINGS)
    assert digests(tmp_path / "two") == digests(smears)


def test_another_seed_draws_another_data_set(smears: Path, tmp_path: Path) -> None:
    draw_smears(smears=tmp_path / "other", seed=2, settings=SETTINGS)
    assert not set(digests(tmp_path / "other").values()) & {
        digest for name, digest in digests(smears).items() if name.endswith(".jpg")
    }


def test_an_old_data_set_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "smears"
    (folder / "phase1").mkdir(parents=True)
    (folder / "phase1" / "old.jpg").write_bytes(b"old")
    draw_smears(smears=folder, seed=1, settings=SETTINGS)
    assert not (folder / "phase1" / "old.jpg").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["smears"]


@pytest.mark.parametrize("wrong", [{"images": 10}, {"patients": 3}, {"least_per_class": 0}, {"x": 1}])
def test_settings_refuse_what_cannot_be_drawn(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        DrawSmears.model_validate(wrong)
