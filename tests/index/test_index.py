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
from PIL import Image

from buffycoat.core.errors import InputError
from buffycoat.core.files import read_json
from buffycoat.core.steps import run
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, TEST_LABELS, decodable, trainable
from buffycoat.index.checking import check_file, inside_root
from buffycoat.index.make_folds import assign_folds, make_folds, receipt_of
from buffycoat.index.make_index import make_index
from buffycoat.index.overview import describe, look_at
from buffycoat.index.pseudo_patients import split_into_runs
from buffycoat.index.settings import MakeFolds, MakeIndex
from buffycoat.index.sources import class_folders, kind_of, read_csv, source_files


def picture(path: Path, seed: int, side: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(path, quality=95)
    return path


def index(folder: Path, table: str, **settings: object) -> tuple[pd.DataFrame, dict[str, object]]:
    """Write the table, run the step, return the images and the summary."""
    (folder / "cells.csv").write_text(table, encoding="utf-8")
    return run_index(folder, folder / "cells.csv", **settings)


def run_index(folder: Path, data: Path, **settings: object) -> tuple[pd.DataFrame, dict[str, object]]:
    out = folder.parent / f"{folder.name}-out" if data == folder else folder / "out"
    chosen = MakeIndex.model_validate(settings)
    make_index(
        data=data,
        sources=[Path(p) for p in source_files(str(data), chosen)],
        images=out / "images.parquet",
        classes=out / "classes.parquet",
        test_labels=out / "test_labels.parquet",
        summary=out / "summary.json",
        threads=2,
        settings=chosen,
    )
    return IMAGES.read(out / "images.parquet"), read_json(out / "summary.json")


def statuses(frame: pd.DataFrame) -> dict[str, str]:
    return dict(zip(frame["image_id"], frame["status"], strict=True))


def test_every_kind_of_bad_file_is_a_row_with_a_status(tmp_path: Path) -> None:
    for k in range(4):
        picture(tmp_path / f"ok{k}.jpg", k)
    whole = picture(tmp_path / "cut.jpg", 9, 64).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "note.jpg").write_text("I am a text file")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    outside = picture(tmp_path.parent / "outside.jpg", 50)
    os.symlink(outside, tmp_path / "link.jpg")
    rows = ["ok0.jpg,SNE", "ok1.jpg,LY", "ok2.jpg,", "ok3.jpg,ALIEN", "cut.jpg,SNE", "note.jpg,SNE", "empty.jpg,SNE",
            "folder.jpg,SNE", "absent.jpg,SNE", "../outside.jpg,SNE", f"{outside},SNE", "link.jpg,SNE"]  # fmt: skip
    frame, summary = index(tmp_path, "image,label\n" + "\n".join(rows) + "\n")
    assert statuses(frame) == {
        "ok0.jpg": "ok", "ok1.jpg": "ok", "ok2.jpg": "unlabelled", "ok3.jpg": "unknown_class", "cut.jpg": "truncated",
        "note.jpg": "not_an_image", "empty.jpg": "not_an_image", "folder.jpg": "missing", "absent.jpg": "missing",
        "../outside.jpg": "outside_root", str(outside): "outside_root", "link.jpg": "outside_root",
    }  # fmt: skip
    assert (frame.loc[frame["status"] != "ok", "reason"] != "").all()
    assert list(frame["image_id"]) == [row.split(",")[0] for row in rows], "the order of the source is kept"
    assert set(decodable(frame)["image_id"]) == {"ok0.jpg", "ok1.jpg", "ok2.jpg", "ok3.jpg"}
    assert set(trainable(frame)["image_id"]) == {"ok0.jpg", "ok1.jpg"}
    assert summary["images"] == 12 and sum(summary["statuses"].values()) == 12  # type: ignore[attr-defined]


def test_duplicates_do_not_teach_twice_nor_leak(tmp_path: Path) -> None:
    for name, seed in [("a", 1), ("b", 1), ("c", 2), ("d", 2), ("e", 3), ("f", 3), ("g", 4)]:
        picture(tmp_path / f"{name}.png", seed)
    table = "image,label,split\na.png,SNE,train\nb.png,SNE,train\nc.png,SNE,train\nd.png,LY,train\n"
    table += "e.png,LY,train\nf.png,,test\ng.png,MO,train\n"
    frame, _ = index(tmp_path, table)
    assert statuses(frame) == {
        "a.png": "ok", "b.png": "duplicate", "c.png": "conflicting_duplicate", "d.png": "conflicting_duplicate",
        "e.png": "duplicate_of_test", "f.png": "ok", "g.png": "ok",
    }  # fmt: skip
    assert set(trainable(frame)["image_id"]) == {"a.png", "g.png"}


def test_labels_of_test_images_are_kept_apart(tmp_path: Path) -> None:
    for k in range(4):
        picture(tmp_path / f"{k}.png", k)
    frame, _ = index(tmp_path, "image,label,split\n0.png,SNE,train\n1.png,LY,train\n2.png,SNE,test\n3.png,LY,test\n")
    assert frame.loc[frame["role"] == "test", "label"].isna().all()
    answers = TEST_LABELS.read(tmp_path / "out" / "test_labels.parquet")
    assert dict(zip(answers["image_id"], answers["label"], strict=True)) == {"2.png": "SNE", "3.png": "LY"}


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
        ("image,image\na.png,SNE\n", "empty or repeated name"),
        ("image,label\na.png,\n", "no image can be learned from"),
        ("image,label\nabsent.png,SNE\n", "no image can be learned from"),
    ],
)
def test_a_bad_list_is_one_error_that_names_it(tmp_path: Path, table: str, message: str) -> None:
    picture(tmp_path / "a.png", 1)
    with pytest.raises(InputError, match=message) as caught:
        index(tmp_path, table)
    assert "cells.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_a_named_split_column_must_exist(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    assert len(index(tmp_path, "image,label\na.png,SNE\n")[0]) == 1
    with pytest.raises(InputError, match="no column 'subset'"):
        index(tmp_path, "image,label\na.png,SNE\n", split_column="subset")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_spellings_do_not_matter(tmp_path: Path, encoding: str, newline: str) -> None:
    name = 'Zelle für "A", 1.png'
    picture(tmp_path / name, 1)
    quoted = '"' + name.replace('"', '""') + '"'
    (tmp_path / "cells.csv").write_bytes(newline.join(["image,label", f"{quoted},SNE", ""]).encode(encoding))
    frame, _ = run_index(tmp_path, tmp_path / "cells.csv")
    assert frame["image_id"].tolist() == [name] and frame["status"].tolist() == ["ok"]


def test_own_classes_and_aliases(tmp_path: Path) -> None:
    for k in range(3):
        picture(tmp_path / f"{k}.png", k)
    table = "image,label\n0.png,neutrophil\n1.png,SMUDGE\n2.png,SNE\n"
    frame, _ = index(tmp_path, table, classes=["SMUDGE", "SNE"], label_aliases={"neutrophil": "SNE"})
    assert frame["label"].tolist() == ["SNE", "SMUDGE", "SNE"] and (frame["status"] == "ok").all()
    classes = CLASSES.read(tmp_path / "out" / "classes.parquet")
    assert classes["code"].tolist() == ["SMUDGE", "SNE"] and classes["images"].tolist() == [1, 2]


def test_labels_that_are_no_codes_are_classes_themselves(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for k in range(3):
        picture(tmp_path / f"{k}.png", k)
    caplog.set_level(logging.INFO, "buffycoat")
    frame, _ = index(tmp_path, "image,label\n0.png,<b> & co.\n1.png,Größe 2/3\n2.png,<b> & co.\n")
    assert (frame["status"] == "ok").all()
    classes = CLASSES.read(tmp_path / "out" / "classes.parquet")
    assert classes["code"].tolist() == ["<b> & co.", "Größe 2/3"]
    assert sum("the labels themselves are the classes" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("code", ["image_id", "label", "probability", "all", "{fold}", "$x$", "a\tb"])
def test_a_class_that_no_table_could_hold_is_refused(tmp_path: Path, code: str) -> None:
    picture(tmp_path / "a.png", 1)
    with pytest.raises(InputError, match="a class cannot be called so.*label_aliases"):
        index(tmp_path, f"image,label\na.png,{code}\n")
    assert index(tmp_path, f"image,label\na.png,{code}\n", label_aliases={code: "SNE"})[0]["label"].tolist() == ["SNE"]


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
    assert source_files(str(root), MakeIndex()) == [str(root), str(root / "LY"), str(root / "SNE")]
    for name in ("<b>", "{b}"):
        picture(tmp_path / "odd" / name / "a.png", 1)
    assert source_files(str(tmp_path / "odd"), MakeIndex()) == [str(tmp_path / "odd")], (
        "no names that Snakemake expands"
    )
    frame, summary = run_index(root, root)
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
    frame, summary = run_index(root, root)
    rows = frame.set_index("image_id")
    assert rows["role"].to_dict() == {name: "test" if name.startswith("test") else "train" for name in names}
    assert rows.loc["validation/LYMPHO/c.png", "split"] == "validation" and rows.loc["test/e.png", "split"] == "test"
    assert summary["classes"] == {"LYMPHO": 2, "NEUTRO": 1}
    answers = TEST_LABELS.read(tmp_path / "cells-out" / "test_labels.parquet")
    assert dict(zip(answers["image_id"], answers["label"], strict=True)) == {"test/NEUTRO/d.png": "NEUTRO"}
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
    with pytest.raises(InputError, match=r"perhaps you mean .*inner; accepted"):
        kind_of(str(tmp_path / "outer"))
    picture(tmp_path / "outer" / "inner" / "test" / "SNE" / "c.png", 3)
    with pytest.raises(InputError, match=r"test/ stands beside LY, SNE, which hold images too"):
        class_folders(tmp_path / "outer" / "inner")
    (tmp_path / "list.xlsx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"ends in '\.xlsx'; accepted are a table \(\.csv or \.parquet\)"):
        kind_of(str(tmp_path / "list.xlsx"))


def test_a_link_to_a_folder_is_named(tmp_path: Path) -> None:
    root = tmp_path / "cells"
    picture(root / "SNE" / "a.png", 1)
    picture(tmp_path / "elsewhere" / "b.png", 2)
    os.symlink(tmp_path / "elsewhere", root / "LY")
    with pytest.raises(InputError, match=r"LY: a link to a folder"):
        run_index(root, root)


def test_an_overview_says_what_will_happen(tmp_path: Path) -> None:
    for k in range(6):
        picture(tmp_path / f"{k}.png", k, 40)
    (tmp_path / "5.png").write_text("no image")
    rows = ["0.png,SNE,p1", "1.png,SNE,p2", "2.png,LY,p1", "3.png,,p1", "4.png,ALIEN,p2", "5.png,LY,p2"]
    (tmp_path / "cells.csv").write_text("image,label,group\n" + "\n".join(rows) + "\n")
    shown = "\n".join(describe(look_at(str(tmp_path / "cells.csv"), MakeIndex()), MakeIndex(), 50, 32))
    for line in ("a table of images", "images: 6", "classes: 2 in training: LY 2, SNE 2",
                 "unlabelled: 1 training image",
                 "other labels: ALIEN 1", "split: none for testing", "patients: 2; none is divided between folds",
                 "40x40 px (5) of 6 images looked at; 1 could not be read",
                 "window: 50 px around each cell (most images are smaller: 40 px), stored at 32 px"):  # fmt: skip
        assert line in shown, shown
    ungrouped = "\n".join(
        describe(look_at(str(tmp_path / "cells.csv"), MakeIndex(groups="none")), MakeIndex(groups="none"), 20, 32)
    )
    assert "patients: not known" in ungrouped and "smaller" not in ungrouped


def test_one_image_classes_are_warned_of(tmp_path: Path) -> None:
    for k in range(3):
        picture(tmp_path / f"{k}.png", k)
    _, summary = index(tmp_path, "image,label\n0.png,SNE\n1.png,SNE\n2.png,PLY\n")
    assert any("PLY has one training image" in warning for warning in summary["warnings"])  # type: ignore[attr-defined]


def wbcbench(folder: Path) -> Path:
    """The challenge's layout with two patients' worth of cells."""
    number = 0
    lists: dict[str, list[str]] = {"phase1": [], "phase2/train": [], "phase2/eval": [], "phase2/test": []}
    for part, rows in lists.items():
        for label in ["BA", "LY", "SNE", "SNE", "BA", "LY"]:
            number += 1
            name = f"{number:08d}.jpg"
            picture(folder / part / name, number)
            rows.append(f"{name}," if part.endswith("test") else f"{name},{label},{part.replace('/', '_')}")
    tail = ",,,"
    (folder / "phase1_label.csv").write_text(
        "\n".join([f"ID,labels,split{tail}"] + [r + tail for r in lists["phase1"]])
    )
    (folder / "phase2_train.csv").write_text("\n".join(["ID,labels,split", *lists["phase2/train"]]))
    (folder / "phase2_eval.csv").write_text("\n".join(["ID,labels,split", *lists["phase2/eval"]]))
    (folder / "phase2_test.csv").write_text("\n".join(["ID,labels", *lists["phase2/test"]]))
    return folder


def test_wbcbench_as_it_is_published(tmp_path: Path) -> None:
    root = wbcbench(tmp_path / "challenge")
    frame, summary = run_index(tmp_path, root, groups="pseudo_patients")
    assert Counter(frame["role"]) == {"train": 18, "test": 6}
    assert summary["classes"]["BA"] == 6 and len(summary["classes"]) == 13  # type: ignore[index,call-overload]
    assert frame.loc[frame["role"] == "test", "group"].isna().all(), "no patients are guessed for test images"
    assert frame.loc[frame["role"] == "train", "group"].notna().all()
    (root / "phase2_eval.csv").write_text("ID,labels,split\n00000001.jpg,BA,phase2_eval\n")
    with pytest.raises(InputError, match=r"phase2_eval\.csv: line 2.*phase1_label\.csv: line 2"):
        run_index(tmp_path, root)


def test_the_index_does_not_depend_on_threads(tmp_path: Path) -> None:
    for k in range(40):
        picture(tmp_path / f"{k}.png", k % 30)
    (tmp_path / "cells.csv").write_text("image,label\n" + "".join(f"{k}.png,SNE\n" for k in range(40)))
    digests = []
    for threads in (1, 3):
        out = tmp_path / str(threads)
        make_index(
            data=tmp_path / "cells.csv", sources=[tmp_path / "cells.csv"], images=out / "i.parquet",
            classes=out / "c.parquet", test_labels=out / "t.parquet", summary=out / "s.json", threads=threads,
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
    table = str(tmp_path / "cells.csv")
    arguments = ["make_index", "--data", table, "--sources", table, "--settings", "{}"]
    for name in ("images", "classes", "test-labels", "summary"):
        arguments += [f"--{name}", str(tmp_path / f"{name}.out")]
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


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a\x00b", "..", "."])
def test_paths_may_not_leave_their_root(tmp_path: Path, name: str) -> None:
    assert not inside_root(name, tmp_path)
    assert check_file(name, tmp_path, 10**6, 10**6).status == "outside_root"


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    assert check_file("a.png", tmp_path, 10**6, 10).status == "too_large"
    assert check_file("a.png", tmp_path, 10, 10**6).status == "too_large"


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
        images=out / "images.parquet", classes=out / "classes.parquet", folds=out / "folds.parquet",
        receipt=out / "receipt.json", seed=3, settings=MakeFolds(folds=3),
    )  # fmt: skip
    assert len(FOLDS.read(out / "folds.parquet")) == 12
    receipt = read_json(out / "receipt.json")
    assert receipt["groups"] == 6 and receipt["groups_in_two_folds"] == 0


def purity(found: list[int], true: list[int]) -> float:
    pairs = Counter(zip(found, true, strict=True))
    best = {group: max(n for (g, _), n in pairs.items() if g == group) for group in set(found)}
    return sum(best.values()) / len(true)


def test_pseudo_patients_recover_most_patients() -> None:
    rng = np.random.default_rng(4)
    labels: list[str] = []
    true: list[int] = []
    for patient in range(80):
        cells = sorted(rng.choice(["BA", "EO", "LY", "MO", "SNE", "VLY"], int(rng.integers(15, 60))))
        labels += [str(cell) for cell in cells]
        true += [patient] * len(cells)
    found = split_into_runs(labels)
    assert abs(len(set(found)) - 80) <= 4
    assert purity(found, true) > 0.95


def brute_force(labels: list[str]) -> float:
    """Least cost over all divisions, by trying them all."""

    def cost(run: list[str]) -> int:
        highest, total = run[0], 0
        for label in run[1:]:
            total += label < highest
            highest = max(highest, label)
        return total

    best = float("inf")
    for cuts in range(2 ** (len(labels) - 1)):
        runs, start = [], 0
        for k in range(1, len(labels)):
            if cuts >> (k - 1) & 1:
                runs.append(labels[start:k])
                start = k
        runs.append(labels[start:])
        best = min(best, 8.0 * (len(runs) - 1) + sum(cost(run) for run in runs))
    return best


@given(st.lists(st.sampled_from("ABC"), min_size=1, max_size=11))
def test_the_division_costs_no_more_than_the_best(labels: list[str]) -> None:
    found = split_into_runs(labels)
    assert found[0] == 0 and all(b - a in (0, 1) for a, b in zip(found, found[1:], strict=False))
    total = 8.0 * found[-1]
    for group in set(found):
        run = [label for label, g in zip(labels, found, strict=True) if g == group]
        highest = run[0]
        for label in run[1:]:
            total += label < highest
            highest = max(highest, label)
    assert total <= brute_force(labels) + 1e-9


def test_real_cells_are_all_sound(real_data: Path, tmp_path: Path) -> None:
    frame, summary = run_index(tmp_path, real_data / "pbc" / "images.csv")
    assert len(frame) == 4199 and (frame["status"] == "ok").all()
    assert summary["classes"]["PMY"] == 14  # type: ignore[index,call-overload]
