"""Tables and folders as people hold them, from files to rows, and what the overview says of them."""

from __future__ import annotations

import logging
import os
import zlib
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from buffycoat.core.errors import InputError
from buffycoat.index.lists import kind_of, rows_digest
from buffycoat.index.overview import Overview, describe, guess_columns, look_at
from buffycoat.index.settings import Columns, Index
from buffycoat.index.sources import roles_of
from tests.index.cases import index, picture, run_index, statuses

TWO = {"make_folds": {"folds": 2}}


def look(data: Path, **settings: object) -> Overview:
    return look_at(str(data), Index.model_validate({**TWO, **settings}))


def shown(seen: Overview) -> str:
    return "\n".join(describe(seen, Index().make_labels, 100, 64))


def folders(root: Path, names: list[str], per: int = 2, suffix: str = ".png") -> Path:
    for name in names:
        for k in range(per):
            path = root / name / f"{k}{suffix}"
            picture(path.with_suffix(".png"), zlib.crc32(f"{root.name}/{name}/{k}".encode()), 20).rename(path)
    return root


def table(folder: Path, columns: dict[str, list[str]], name: str = "cells.csv") -> Path:
    pd.DataFrame(columns).to_csv(folder / name, index=False)
    return folder / name


def cells(folder: Path, count: int = 8) -> dict[str, list[str]]:
    """Draw images and return the columns image and label."""
    names = [f"{k}.png" for k in range(count)]
    for k, name in enumerate(names):
        picture(folder / name, k)
    return {"image": names, "label": ["SNE" if k % 2 else "LY" for k in range(count)]}


@pytest.mark.parametrize(
    ("train", "test"), [("TRAIN", "TEST"), ("Training", "Testing"), ("fit", "hold-out"), ("train_set", "TestA")]
)
def test_a_split_of_any_spelling_divides_the_images(
    tmp_path: Path, train: str, test: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "buffycoat")
    path = table(tmp_path, {**cells(tmp_path), "split": [train] * 6 + [test] * 2})
    assert Counter(run_index(path)[0]["role"]) == {"train": 6, "test": 2}
    assert f"split: 6 training, 2 test ({train} 6, {test} 2)" in shown(look(path))
    assert any("6 training and 2 test" in message for message in caplog.messages)


def test_values_of_a_split_that_say_nothing_are_an_error() -> None:
    for values in (["a", "b"], ["train", "test", "external"], ["0", "1", "2"], ["train", "evaluation"]):
        with pytest.raises(InputError, match=r"where: found .*'(a|external|0|evaluation)' \(1\).*test_values"):
            roles_of(values, "auto", "where")
    assert roles_of(["train", "VAL", "test", None], "auto", "w")[0] == ["train", "train", "test", "train"]
    notes = roles_of(["train", "VAL", "test", None], "auto", "w")[1]
    assert any("'VAL' (1) counts as training" in note for note in notes)
    assert any("1 rows are empty and count as training" in note for note in notes)
    assert roles_of(["pbc", "pbc"], "auto", "w") == (["train", "train"], ["w: its only value 'pbc' counts as training"])


def test_the_user_says_which_values_mean_test() -> None:
    assert roles_of(["A", "b", "Test"], ("B",), "w")[0] == ["train", "test", "train"]
    assert "'Test' (1) count as training" in roles_of(["A", "b", "Test"], ("B",), "w")[1][0]
    assert roles_of(["test", "x"], (), "w")[0] == ["train", "train"]
    assert roles_of(["train", "val"], ("test",), "w")[0] == ["train", "train"]
    with pytest.raises(InputError, match=r"none of index\.make_index\.test_values \(C\) occurs \(found: 'A' \(2\)"):
        roles_of(["A", "A", "b"], ("C",), "w")


def test_columns_of_another_case_are_used_and_others_are_pointed_out(tmp_path: Path) -> None:
    held = cells(tmp_path)
    named = {"Image": held["image"], "LABEL": held["label"], "Group": [f"p{k}" for k in range(8)]}
    extra = {"fold": [str(k % 3) for k in range(8)], "Patient": named["Group"], "usage": ["Train", "Test"] * 4}
    seen = look(table(tmp_path, {**named, **extra}))
    text = shown(seen)
    assert "patients: 8;" in text and "'Image' as 'image'" in text and "'LABEL' as 'label', 'Group' as 'group'" in text
    assert "column 'usage' looks like a split and is not used" in text and "'fold'" not in text
    text = shown(look(table(tmp_path, {**held, "fold": extra["fold"], "Patient": named["Group"]})))
    assert "column 'fold' looks like a split and is not used" in text
    assert "column 'Patient' looks like the patient and is not used" in text and "patients: not known" in text


def test_columns_are_guessed_only_where_one_is_likely(tmp_path: Path) -> None:
    held = cells(tmp_path)
    others = {"file": held["image"], "cell_type": held["label"], "subset": ["train", "test"] * 4}
    path = table(tmp_path, {**others, "patient_id": [f"p{k}" for k in range(8)]})
    assert guess_columns(path, Columns(), 5) == {
        "image": "file", "label": "cell_type", "split": "subset", "group": "patient_id",
    }  # fmt: skip
    path = table(tmp_path, {**others, "type": held["label"], "subset": list("abcdefgh"), "slide": ["s1", "s2"] * 4})
    assert guess_columns(path, Columns(), 5) == {"image": "file"}
    assert guess_columns(path, Columns(label="type"), 2) == {"image": "file", "group": "slide"}


def test_boxes_that_may_start_at_a_corner_or_a_centre_are_said_not_to_be_read(tmp_path: Path) -> None:
    held = cells(tmp_path)
    corners = {name: ["1"] * 8 for name in ("x", "y", "width", "height")}
    assert "x, y, width, height look like boxes" in shown(look(table(tmp_path, {**held, **corners})))
    repeated = {**held, "image": ["0.png"] * 8, **corners}
    with pytest.raises(InputError, match="listed twice .*x, y, width, height look like boxes, which are not read"):
        look(table(tmp_path, repeated))


@pytest.mark.parametrize("how", ["absolute", "above", "home", "backslashes", "case", "suffix", "link"])
def test_files_are_found_wherever_the_table_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    held = cells(tmp_path / "store")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "lists").mkdir()
    os.symlink(tmp_path / "store", tmp_path / "lists" / "linked")
    shape = {"absolute": f"{tmp_path}/store/%s", "above": "../store/%s", "home": "~/store/%s", "link": "linked/%s",
             "backslashes": "..\\store\\%s", "case": "../STORE/%s", "suffix": "../store/%s.jpg"}[how]  # fmt: skip
    names = [shape % (name.removesuffix(".png") if how == "suffix" else name) for name in held["image"]]
    path = table(tmp_path / "lists", {**held, "image": names})
    frame, _ = run_index(path, tmp_path / "out")
    assert set(statuses(frame).values()) == {"ok"} and frame["image_id"].tolist() == names
    assert all(Path(file).is_file() for file in frame["path"])
    told = {"home": "~", "backslashes": "with / for \\", "case": "another case", "suffix": "another suffix"}
    assert told.get(how, "") in shown(look(path))


def test_a_file_of_another_row_is_nobody_elses(tmp_path: Path) -> None:
    held = cells(tmp_path, 6)
    held["image"][0] = "1.jpg"
    held["image"][2:4] = ["3.bmp", "3.tif"]
    frame, _ = run_index(table(tmp_path, held))
    assert statuses(frame) == {"1.jpg": "missing", "1.png": "ok", "3.bmp": "missing", "3.tif": "missing",
                               "4.png": "ok", "5.png": "ok"}  # fmt: skip


def test_a_table_without_a_single_file_says_where_they_may_be(tmp_path: Path) -> None:
    held = cells(tmp_path / "img")
    path = table(tmp_path, held)
    found = look(path).fault
    assert f"no such file: {tmp_path / '0.png'}; nor with" in found
    assert f"set index.make_index.root: {tmp_path / 'img'}" in found
    path = table(tmp_path, {**held, "image": [f"D:\\other\\img\\{name}" for name in held["image"]]})
    with pytest.raises(InputError, match=r"no image can be read: .*shorten the names in the table to img/0\.png"):
        run_index(path)


@pytest.mark.parametrize(
    ("labels", "split", "message"),
    [
        (["SNE"] * 8, ["train"] * 8, "all labelled training images are of one class, SNE"),
        ([""] * 8, ["train"] * 8, "no training image has a label"),
        (["SNE", "LY"] * 4, ["Test"] * 8, "no training image has a label"),
        (["SNE", "LY"] * 4, ["train", "train", *["test"] * 6], "3 folds need at least 3 groups (patients), found 2"),
        (["SNE", "LY", "SNEE", "LY"] * 2, ["train"] * 8, "did you mean SNE?"),
    ],
)
def test_what_cannot_be_trained_is_a_fault(tmp_path: Path, labels: list[str], split: list[str], message: str) -> None:
    path = table(tmp_path, {**cells(tmp_path), "label": labels, "split": split})
    seen = look(path, make_folds={"folds": 3})
    assert message in seen.fault and seen.fault.startswith(str(path)) and "\n" not in seen.fault


def test_patients_that_are_partly_known_are_counted(tmp_path: Path) -> None:
    path = table(tmp_path, {**cells(tmp_path), "group": ["p1", "p1", "p2", "p2", "p3", "", "", ""]})
    assert "patients: 3; none is divided between folds; 3 labelled training images name none" in shown(look(path))


def test_a_patient_that_is_a_gap_is_said(tmp_path: Path) -> None:
    path = table(tmp_path, {**cells(tmp_path), "group": ["p1", "p1", "p2", "p2", "p3", "n/a", "n/a", "n/a"]})
    path.write_text(path.read_text().replace("n/a", "NA"))
    assert "3 images of the patient 'NA' count as one" in shown(look(path))


def test_many_values_are_not_all_shown(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", [f"class {k:03d}" for k in range(30)], 1)
    assert " and 10 more" in shown(look(root))


def test_data_of_another_case_are_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(tmp_path, cells(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no such file or folder: /.*Cells\.CSV; did you mean cells\.csv\?"):
        kind_of("Cells.CSV")


def test_test_labels_of_no_class_are_said(tmp_path: Path) -> None:
    held = cells(tmp_path)
    held["label"][7] = "PLT"
    text = shown(look(table(tmp_path, {**held, "split": ["train"] * 6 + ["test"] * 2})))
    assert "1 test images are of no class and not scored: PLT 1" in text


def test_class_folders_in_one_folder_of_folders(tmp_path: Path) -> None:
    """As an archive of a public set unpacks: a folder in a folder, TRAIN and TEST above names of cells."""
    names = [f"{part}/{name}" for part in ("TRAIN", "TEST", "TEST_SIMPLE") for name in ("EOSINOPHIL", "NEUTROPHIL")]
    folders(tmp_path / "set" / "set-master" / "images", names, suffix=".JPEG")
    frame, summary = run_index(tmp_path / "set", tmp_path / "out")
    assert Counter(frame["role"]) == {"train": 4, "test": 8} and summary["classes"] == {"EO": 2, "SNE": 2}
    text = shown(look(tmp_path / "set"))
    assert "the classes are the folders in" in text and "split: 4 training, 8 test" in text


def test_patients_above_or_below_classes_need_a_pattern_and_are_pointed_out(tmp_path: Path) -> None:
    above = folders(tmp_path / "above", [f"{p}/{c}" for p in ("p1", "p2", "p3") for c in ("SNE", "LY")], 1)
    with pytest.raises(
        InputError, match=r"the classes are inside; set index\.columns\.pattern: <group>/<label>/<file>"
    ):
        look(above)
    frame, summary = run_index(above, tmp_path / "out", pattern="<group>/<label>/<file>")
    assert Counter(frame["group"]) == {"p1": 2, "p2": 2, "p3": 2} and summary["classes"] == {"LY": 3, "SNE": 3}
    assert "patients: 3;" in shown(look(above, columns={"pattern": "<group>/<label>/<file>"}))
    below = folders(tmp_path / "below", [f"{c}/{p}" for p in ("p1", "p2") for c in ("SNE", "LY")], 1)
    assert "if these are patients, set index.columns.pattern: <label>/<group>/<file>" in shown(look(below))
    own = folders(tmp_path / "own", [f"{p}/{c}" for p in ("p1", "p2") for c in ("hem", "blastic")], 1)
    assert "if these are the classes, set index.columns.pattern: <group>/<label>/<file>" in shown(look(own))


def test_parts_below_classes_need_a_pattern(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", [f"{c}/{s}" for s in ("train", "test") for c in ("SNE", "LY")])
    with pytest.raises(InputError, match=r"set index\.columns\.pattern: <label>/<split>/<file>"):
        look(root)
    frame, _ = run_index(root, tmp_path / "out", pattern="<label>/<split>")
    assert Counter(frame["role"]) == {"train": 4, "test": 4} and set(frame["label"].dropna()) == {"SNE", "LY"}


def test_a_pattern_reads_names_of_files_and_says_what_does_not_fit(tmp_path: Path) -> None:
    names = [f"fold_{k % 3}/{label}/UID_{k % 4}_{k}.bmp" for k in range(8) for label in ("hem", "blastic")]
    for k, name in enumerate([*names, "fold_0/hem/other.bmp"]):
        picture(tmp_path / "set" / f"{name}.png", k).rename(tmp_path / "set" / name)
    columns = {"pattern": "fold_*/<label>/UID_<group>_<file>"}
    seen = look(tmp_path / "set", columns=columns)
    assert (seen.groups, seen.classes) == (4, Counter(hem=8, blastic=8))
    assert "1 images do not fit index.columns.pattern and have no label, for instance fold_0/hem/other.bmp" in shown(
        seen
    )
    with pytest.raises(
        InputError, match=r"no image fits index\.columns\.pattern <group>/x/<label>/<file>, for instance"
    ):
        look(tmp_path / "set", columns={"pattern": "<group>/x/<label>/<file>"})


def test_linked_folders_and_files_are_read(tmp_path: Path) -> None:
    folders(tmp_path / "store", ["a", "b"])
    (tmp_path / "set" / "SNE").mkdir(parents=True)
    os.symlink(tmp_path / "store" / "a", tmp_path / "set" / "LY")
    for k in range(2):
        os.symlink(tmp_path / "store" / "b" / f"{k}.png", tmp_path / "set" / "SNE" / f"{k}.png")
    frame, _ = run_index(tmp_path / "set", tmp_path / "out")
    assert statuses(frame) == dict.fromkeys(["LY/0.png", "LY/1.png", "SNE/0.png", "SNE/1.png"], "ok")


def test_another_file_in_class_folders_changes_the_rows(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", ["SNE/x/y", "LY"])
    before = rows_digest(str(root), Columns())
    (root / "LY" / "notes.txt").write_text("x")
    assert rows_digest(str(root), Columns()) == before
    picture(root / "SNE" / "x" / "y" / "9.png", 9)
    assert rows_digest(str(root), Columns()) != before


@pytest.mark.parametrize(
    "name", ["t.CSV", "t.tsv", "t.tab", "t.csv.gz", "t.xlsx", "t.xlsm", "t.parquet", "t.pq", "t.txt"]
)
def test_tables_are_known_by_their_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert kind_of(str(tmp_path / name)) == "table"


def test_a_label_that_is_left_out_is_a_row_with_a_reason(tmp_path: Path) -> None:
    held = cells(tmp_path)
    held["label"][0] = "Smudge"
    frame, summary = run_index(table(tmp_path, held), label_aliases={"smudge": None})
    row = frame.set_index("image_id").loc["0.png"]
    assert row["label_status"] == "left_out" and "left out by index.make_labels.label_aliases" in row["label_reason"]
    assert row["status"] == "ok", "it is still predicted"
    assert summary["statuses"] == {"ok": 7, "left_out": 1}


def test_numbers_are_labels(tmp_path: Path) -> None:
    for k in range(4):
        picture(tmp_path / f"{k}.png", k)
    rows = "image,label\n0.png,1\n1.png,2\n2.png,1\n3.png,2\n"
    assert index(tmp_path, rows)[1]["classes"] == {"1": 2, "2": 2}
    assert index(tmp_path, rows, label_aliases={1: "SNE", 2: "LY"})[1]["classes"] == {"LY": 2, "SNE": 2}
    assert index(tmp_path, rows, classes=[2, 1])[1]["classes"] == {"2": 2, "1": 2}
