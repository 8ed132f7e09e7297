from __future__ import annotations

import errno
import logging
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buffycoat.core.errors import InputError
from buffycoat.core.files import read_json
from buffycoat.core.steps import run
from buffycoat.data.tables.index import FOLDS, IMAGES, TEST_LABELS, decodable
from buffycoat.index.lists import class_folders, folders_of, kind_of
from buffycoat.index.make_folds import assign_folds, make_folds, receipt_of
from buffycoat.index.make_index import check_file, make_index
from buffycoat.index.overview import describe, look_at
from buffycoat.index.settings import Columns, Index, MakeFolds, MakeIndex, MakeLabels
from buffycoat.index.sources import read_csv
from tests.index.cases import index, picture, run_index, statuses, wbcbench


def test_every_kind_of_bad_file_is_a_row_with_a_status(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for k in range(4):
        picture(folder / f"ok{k}.jpg", k)
    whole = picture(folder / "cut.jpg", 9, 64).read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "note.jpg").write_text("I am a text file")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "folder.jpg").mkdir()
    os.symlink(tmp_path / "nowhere.jpg", folder / "broken link.jpg")
    rows = ["ok0.jpg,SNE", "ok1.jpg,LY", "ok2.jpg,", "ok3.jpg,SMUDGE", "cut.jpg,SNE", "note.jpg,SNE", "empty.jpg,SNE",
            "folder.jpg,SNE", "absent.jpg,SNE", "broken link.jpg,SNE", "a\x00b,SNE"]  # fmt: skip
    frame, summary = index(folder, "image,label\n" + "\n".join(rows) + "\n", label_aliases={"smudge": None})
    assert statuses(frame) == {
        "ok0.jpg": "ok", "ok1.jpg": "ok", "ok2.jpg": "unlabelled", "ok3.jpg": "left_out", "cut.jpg": "truncated",
        "note.jpg": "not_an_image", "empty.jpg": "not_an_image", "folder.jpg": "missing", "absent.jpg": "missing",
        "broken link.jpg": "missing", "a\x00b": "missing",
    }  # fmt: skip
    assert (frame.loc[frame["status"] != "ok", "reason"] != "").all()
    assert (frame.loc[frame["label_status"] != "ok", "label_reason"] != "").all()
    reasons = frame.set_index("image_id")["reason"]
    assert str(folder / "absent.jpg") in reasons["absent.jpg"] and "another suffix" in reasons["absent.jpg"]
    assert (frame["status"] == frame["label_status"]).sum() == 9, "what the file is goes first"
    assert list(frame["image_id"]) == [row.split(",")[0] for row in rows], "the order of the source is kept"
    assert set(decodable(frame)["image_id"]) == {"ok0.jpg", "ok1.jpg", "ok2.jpg", "ok3.jpg"}
    assert summary["trainable"] == 2
    assert summary["images"] == 11 and sum(summary["statuses"].values()) == 11  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "the file is empty"),
        ("image,label\n", "no rows"),
        ("picture,label\na.png,SNE\n", r"no column 'image' \(found: picture, label\)"),
        ("image,kind\na.png,SNE\n", r"no column 'label'"),
        (
            "image,label\na.png,SNE\nb.png,LY\na.png,LY\n",
            r"line 4: the image 'a.png' is listed twice \(first: .*line 2",
        ),
        ("image,label\na.png\n", "line 2: 1 values"),
        ("image,label\na.png,SNE,extra\n", "line 2: 3 values"),
        ("image,label\n,SNE\n", "line 2: the image's name is empty"),
        ("image,image\na.png,SNE\n", "the header has a repeated name: 'image'"),
        ("image,label\na.png,\n", "no image can be learned from"),
        ("image,label\nabsent.png,SNE\n", "no image can be read: .*absent.png: no such file"),
        ("image,label,split\na.png,SNE,test\n", "no image can be learned from"),
    ],
)
def test_a_bad_list_is_one_error_that_names_it(tmp_path: Path, table: str, message: str) -> None:
    picture(tmp_path / "a.png", 1)
    with pytest.raises(InputError, match=message) as caught:
        index(tmp_path, table)
    assert "cells.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_a_named_split_column_must_exist(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    picture(tmp_path / "b.png", 2)
    assert len(index(tmp_path, "image,label\na.png,SNE\nb.png,LY\n")[0]) == 2
    with pytest.raises(InputError, match="no column 'subset'"):
        index(tmp_path, "image,label\na.png,SNE\n", split="subset")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_spellings_do_not_matter(tmp_path: Path, encoding: str, newline: str) -> None:
    name = 'Zelle für "A", 1.png'
    picture(tmp_path / name, 1)
    quoted = '"' + name.replace('"', '""') + '"'
    picture(tmp_path / "b.png", 2)
    lines = ["image,label", f"{quoted},SNE", "b.png,LY", ""]
    (tmp_path / "cells.csv").write_bytes(newline.join(lines).encode(encoding))
    frame, _ = run_index(tmp_path / "cells.csv")
    assert frame["image_id"].tolist() == [name, "b.png"] and frame["status"].tolist() == ["ok", "ok"]


def test_wbcbench_as_it_is_published(tmp_path: Path) -> None:
    root = wbcbench(tmp_path / "challenge")
    frame, summary = run_index(root, groups="pseudo_patients")
    assert Counter(frame["role"]) == {"train": 18, "test": 6}
    assert summary["classes"]["BA"] == 6 and len(summary["classes"]) == 13  # type: ignore[index,call-overload]
    assert frame.loc[frame["role"] == "test", "group"].isna().all(), "no patients are guessed for test images"
    assert frame.loc[frame["role"] == "train", "group"].notna().all()
    (root / "phase2_eval.csv").write_text("ID,labels,split\n00000001.jpg,BA,phase2_eval\n")
    with pytest.raises(InputError, match=r"phase2_eval\.csv: line 2.*phase1_label\.csv: line 2"):
        run_index(root)


def test_the_index_does_not_depend_on_threads(tmp_path: Path) -> None:
    for k in range(40):
        picture(tmp_path / f"{k}.png", k % 30)
    (tmp_path / "cells.csv").write_text("image,label\n" + "".join(f"{k}.png,SNE\n" for k in range(40)))
    digests = []
    for threads in (1, 3):
        out = tmp_path / str(threads)
        make_index(
            data=tmp_path / "cells.csv", images=out / "i.parquet", threads=threads, columns=Columns(),
            settings=MakeIndex(),
        )  # fmt: skip
        digests.append(IMAGES.read(out / "i.parquet"))
    pd.testing.assert_frame_equal(*digests)


def test_a_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "a.png", 1)
    picture(tmp_path / "b.png", 2)
    (tmp_path / "cells.csv").write_text("image,label\na.png,SNE\nb.png,LY\n")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    arguments = ["make_index", "--data", str(tmp_path / "cells.csv"), "--columns", "{}", "--settings", "{}"]
    arguments += ["--images", str(tmp_path / "images.out")]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as caught:
        run(make_index)
    assert caught.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no space left on the disk" in last and "images.out" in last


# However busy the machine is.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(st.text('ab,"\n é=;', max_size=5), min_size=2, max_size=2), min_size=1, max_size=6))
def test_csv_cells_survive_whatever_they_hold(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    import csv

    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "label"])
        writer.writerows(rows)
    kept = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    assert read_csv(path)[["image", "label"]].to_numpy().tolist() == kept


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a\x00b", "..", ".", "x" * 5000, "a/" * 3000])
def test_a_path_that_is_no_image_is_a_status(tmp_path: Path, name: str) -> None:
    assert check_file(name, tmp_path, 10**6, 10**6).status in ("missing", "not_an_image", "unreadable")


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    assert check_file("a.png", tmp_path, 10**6, 10).status == "too_large"
    assert check_file("a.png", tmp_path, 10, 10**6).status == "too_large"


def test_class_folders_are_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "cells"
    for k, name in enumerate(["SNE/a.JPG", "SNE/patient 1/b.PnG", "LY/c.Tiff", "LY/d.webp", "e.bmp"]):
        # The format is in the bytes; the name only says that it is an image.
        picture(root / f"{name}.png", k).rename(root / name)
    (root / "LY" / "Thumbs.db").write_bytes(b"x")
    (root / ".hidden").mkdir()
    picture(root / ".hidden" / "f.png", 9)
    (root / "notes.txt").write_text("x")
    (root / "empty").mkdir()
    assert kind_of(str(root)) == "class folders"
    assert folders_of(str(root)) == [str(root), str(root / "LY"), str(root / "SNE")]
    for name in ("<b>", "{b}"):
        picture(tmp_path / "odd" / name / "a.png", 1)
    assert folders_of(str(tmp_path / "odd")) == [str(tmp_path / "odd")], "no names that Snakemake expands"
    frame, summary = run_index(root)
    assert dict(zip(frame["image_id"], frame["label"].fillna("none"), strict=True)) == {
        "LY/c.Tiff": "LY", "LY/d.webp": "LY", "SNE/a.JPG": "SNE", "SNE/patient 1/b.PnG": "SNE", "e.bmp": "none",
    }  # fmt: skip
    assert statuses(frame)["e.bmp"] == "unlabelled" and set(frame["role"]) == {"train"}
    assert frame["group"].isna().all() and frame["split"].isna().all()
    assert any("1 files are no images" in record.message and "notes.txt" in record.message for record in caplog.records)


def test_folders_above_class_folders_divide_the_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "cells"
    names = ["Train/NEUTRO/a.png", "Train/LYMPHO/b.png", "validation/LYMPHO/c.png", "test/NEUTRO/d.png", "test/e.png"]
    for k, name in enumerate(names):
        picture(root / name, k)
    caplog.set_level(logging.INFO, "buffycoat")
    frame, summary = run_index(root)
    rows = frame.set_index("image_id")
    assert rows["role"].to_dict() == {name: "test" if name.startswith("test") else "train" for name in names}
    assert rows.loc["validation/LYMPHO/c.png", "split"] == "validation" and rows.loc["test/e.png", "split"] == "test"
    assert summary["classes"] == {"LY": 2, "SNE": 1}
    answers = TEST_LABELS.read(tmp_path / "out" / "test_labels.parquet")
    assert dict(zip(answers["image_id"], answers["label"], strict=True)) == {"test/NEUTRO/d.png": "SNE"}
    assert sum("validation/ counts as training" in record.message for record in caplog.records) == 1


def test_folders_that_are_no_data_say_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file or folder: .*absent"):
        kind_of(str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"holds 0 images, 0 other files, 0 folders with images; accepted are a table"):
        kind_of(str(tmp_path))
    picture(tmp_path / "set" / "images" / "a.png", 1)
    (tmp_path / "set" / "images.csv").write_text("image,label\n")
    with pytest.raises(
        InputError, match=r"1 folders with images \(images/\); perhaps you mean .*images\.csv; accepted"
    ):
        kind_of(str(tmp_path / "set"))
    picture(tmp_path / "outer" / "inner" / "SNE" / "a.png", 1)
    picture(tmp_path / "outer" / "inner" / "LY" / "b.png", 2)
    assert kind_of(str(tmp_path / "outer")) == "class folders", "one folder that holds everything is entered"
    picture(tmp_path / "one" / "SNE" / "p1" / "a.png", 1)
    picture(tmp_path / "one" / "SNE" / "p2" / "b.png", 2)
    with pytest.raises(InputError, match=r"1 folders with images \(SNE/\)"):
        kind_of(str(tmp_path / "one"))
    picture(tmp_path / "outer" / "a.png", 4)
    with pytest.raises(InputError, match=r"holds 1 images, .*perhaps you mean .*inner; accepted"):
        kind_of(str(tmp_path / "outer"))
    picture(tmp_path / "outer" / "inner" / "test" / "SNE" / "c.png", 3)
    with pytest.raises(InputError, match=r"test/ stands beside LY, SNE, which hold images too"):
        class_folders(tmp_path / "outer" / "inner")
    for name in ("list.ods", "list.xls"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(
            InputError, match=r"ends in '\.\w+'; save it as \.xlsx or \.csv; accepted are a table \(\.csv"
        ):
            kind_of(str(tmp_path / name))


def test_an_overview_says_what_will_happen(tmp_path: Path) -> None:
    for k in range(6):
        picture(tmp_path / f"{k}.png", k, 40)
    (tmp_path / "5.png").write_text("no image")
    rows = ["0.png,SNE,p1", "1.png,SNE,p2", "2.png,LY,p1", "3.png,,p1", "4.png,ALIEN,p2", "5.png,LY,", "6.png,LY,p1"]
    (tmp_path / "cells.csv").write_text("image,label,group\n" + "\n".join(rows) + "\n")
    shown = "\n".join(describe(look_at(str(tmp_path / "cells.csv"), Index()), MakeLabels(), 50, 32))
    for line in ("a table of images", "images: 7", "classes: 2 in training: LY 3, SNE 2",
                 "unlabelled: 1 training image", "missing: 1 of 7 files; first: no such file: ",
                 "other labels: ALIEN 1", "split: 7 training, 0 test; training images are scored by folds",
                 "patients: 2; none is divided between folds; 1 labelled training images name none and count as",
                 "40x40 px (5) of 6 images looked at; 1 could not be read",
                 "window: 50 px around each cell (most images are smaller: 40 px), stored at 32 px"):  # fmt: skip
        assert line in shown, shown
    none = MakeLabels(groups="none")
    ungrouped = "\n".join(describe(look_at(str(tmp_path / "cells.csv"), Index(make_labels=none)), none, 20, 32))
    assert "patients: not known" in ungrouped and "smaller" not in ungrouped


def rows_of(labels: list[str], groups: list[str | None]) -> pd.DataFrame:
    ids = [f"{k}.png" for k in range(len(labels))]
    return pd.DataFrame({"image_id": ids, "label": labels, "group": pd.Series(groups, dtype=object)})


def test_no_group_sits_in_two_folds_and_every_image_in_one() -> None:
    rng = np.random.default_rng(0)
    groups = [f"p{k}" for k in rng.integers(0, 40, 600)]
    rows = rows_of(list(rng.choice(["SNE", "LY", "BA"], 600, p=[0.7, 0.25, 0.05])), groups)
    assigned = assign_folds(rows, 5, seed=1)
    assert set(assigned["fold"]) == set(range(5)) and set(assigned["image_id"]) == set(rows["image_id"])
    receipt = receipt_of(rows, assigned, ["BA", "LY", "SNE"], 1)
    assert receipt["groups_in_two_folds"] == 0 and receipt["groups"] == rows["group"].nunique()
    assert pd.Series(groups).groupby(groups).apply(lambda g: assigned["fold"].iloc[g.index].nunique()).max() == 1
    shares = [entry["classes"]["LY"] / entry["images"] for entry in receipt["folds"]]
    assert max(shares) - min(shares) < 0.15
    pd.testing.assert_frame_equal(assigned, assign_folds(rows, 5, seed=1))
    assert (assigned["fold"] != assign_folds(rows, 5, seed=2)["fold"]).any()


def test_the_receipt_catches_a_leak_and_names_missing_classes() -> None:
    rows = rows_of(["SNE"] * 4 + ["PLY"], ["a", "a", "b", "b", "b"])
    leaky = pd.DataFrame({"image_id": rows["image_id"], "fold": [0, 1, 0, 0, 0]})
    receipt = receipt_of(rows, leaky, ["PLY", "SNE"], 0)
    assert receipt["groups_in_two_folds"] == 1
    assert receipt["folds"][1]["not_held_out"] == ["PLY"] and receipt["folds"][0]["not_learned"] == ["PLY"]


def test_a_class_with_one_image_does_not_stop_the_folds() -> None:
    rows = rows_of(["SNE"] * 20 + ["PLY"], [None] * 21)
    assigned = assign_folds(rows, 5, 1)
    receipt = receipt_of(rows, assigned, ["PLY", "SNE"], 1)
    assert sum("PLY" in entry["not_held_out"] for entry in receipt["folds"]) == 4
    assert "21 of 21 images have no group" in receipt["note"]


def test_fewer_groups_than_folds_is_a_clear_error() -> None:
    with pytest.raises(InputError, match="5 folds need at least 5 groups .*found 2"):
        assign_folds(rows_of(["SNE"] * 10, ["a", "b"] * 5), 5, 1)


def test_make_folds_stores_its_receipt(tmp_path: Path) -> None:
    for k in range(12):
        picture(tmp_path / f"{k}.png", k)
    index(
        tmp_path, "image,label,group\n" + "".join(f"{k}.png,{'SNE' if k % 3 else 'LY'},p{k // 2}\n" for k in range(12))
    )
    out = tmp_path / "out"
    make_folds(
        images=out / "images.parquet", labels=out / "labels.parquet", classes=out / "classes.parquet",
        folds=out / "folds.parquet",
        receipt=out / "receipt.json", seed=3, settings=MakeFolds(folds=3),
    )  # fmt: skip
    assert len(FOLDS.read(out / "folds.parquet")) == 12
    receipt = read_json(out / "receipt.json")
    assert receipt["groups"] == 6 and receipt["groups_in_two_folds"] == 0


def test_real_cells_are_all_sound(real_data: Path, tmp_path: Path) -> None:
    frame, summary = run_index(real_data / "pbc" / "images.csv", tmp_path / "out")
    assert len(frame) == 4199 and (frame["status"] == "ok").all()
    assert summary["classes"]["PMY"] == 14  # type: ignore[index,call-overload]
