"""What is given becomes one row per image."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from buffycoat.bundle import inputs
from buffycoat.bundle.inputs import USER, checked, listed, shown
from buffycoat.core.errors import InputError
from buffycoat.index.make_index import check_location


def picture(path: Path, side: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), 200, np.uint8)).save(path)
    return path


def test_a_folder_stands_for_every_file_below_it_in_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("b.png", "a/z.png", "a/.hidden.png", "c.png", "no suffix.png", "__MACOSX/c.png"):
        picture(tmp_path / "in" / name)
    (tmp_path / "in" / "no suffix.png").rename(tmp_path / "in" / "no suffix")
    for name in ("notes.txt", "a/notes.TXT", "a/z.xml", "boxes.json", "labels.csv", "Thumbs.db", "a/desktop.ini"):
        (tmp_path / "in" / name).write_text("no image")
    rows = listed(tmp_path / "in")
    assert rows["name"].tolist() == ["a/z.png", "b.png", "c.png", "no suffix"]
    assert rows["image_id"].tolist() == [str(tmp_path / "in" / name) for name in rows["name"]]
    (line,) = (record.message for record in caplog.records)
    assert "left out: 1 .csv, 1 .json, 2 .txt, 1 .xml, 4 hidden files and folders, or such as systems leave" in line


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    store = tmp_path / "store"
    picture(store / "sub" / "a.png")
    picture(store / "b.png")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "linked").symlink_to(store, target_is_directory=True)
    (folder / "one.png").symlink_to(store / "b.png")
    (store / "sub" / "back").symlink_to(folder, target_is_directory=True)
    (folder / "gone.png").symlink_to(tmp_path / "nothing.png")
    with ThreadPoolExecutor(1) as pool:
        rows = checked(listed(str(folder)), pool)
    assert {"linked/b.png", "linked/sub/a.png", "one.png", "gone.png"} <= set(rows["name"]) and len(rows) < 9
    assert rows.set_index("name")["status"].drop("gone.png").eq("ok").all()
    assert rows.set_index("name").loc["gone.png", "status"] == "missing"


def test_a_table_stands_for_its_rows_relative_to_its_folder(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("file,note\nx/a.png,1\n ../b.png ,2\n")
    rows = listed([table], "file")
    assert rows["image_id"].tolist() == ["x/a.png", "../b.png"] and set(rows["root"]) == {str(tmp_path)}
    assert rows[f"{USER}note"].tolist() == ["1", "2"]
    pd.DataFrame({"image": ["q.png"]}).to_parquet(tmp_path / "list.parquet")
    assert listed([tmp_path / "list.parquet"])["name"].tolist() == ["q.png"]
    with pytest.raises(
        InputError, match=r"list.csv: no column 'image' \(found: file, note\); perhaps --image-column file"
    ):
        listed([table])


@pytest.mark.parametrize("name", ["l.tsv", "semi.csv", "excel.xlsx", "packed.csv.gz", "index.csv", "rows.parquet"])
def test_a_table_of_any_kind_is_read(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"Image": ["a.png", "b.png"], "age": ["12,5", "3"]})
    if name.endswith(".xlsx"):
        frame.to_excel(tmp_path / name, index=False)
    elif name.endswith(".parquet"):
        frame.to_parquet(tmp_path / name)
    else:
        separator = {"l.tsv": "\t", "semi.csv": ";"}.get(name, ",")
        frame.to_csv(tmp_path / name, sep=separator, index=name == "index.csv")
    rows = listed(tmp_path / name)
    assert rows["image_id"].tolist() == ["a.png", "b.png"] and rows[f"{USER}age"].tolist() == ["12,5", "3"]


def test_a_row_without_a_name_and_one_that_leads_nowhere_stay_rows(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("image,note\na.png,1\n,2\nsub/none.png,3\n.,4\n")
    with ThreadPoolExecutor(1) as pool:
        rows = checked(listed(tmp_path / "list.csv"), pool)
    assert rows["status"].tolist() == ["ok", "missing", "missing", "missing"]
    assert rows["image_id"][1] == f"{tmp_path}/list.csv: line 3" and "empty" in rows["reason"][1]
    assert f"{tmp_path}/sub/none.png" in rows["reason"][2], "the full path that was tried"
    assert rows["reason"][3].startswith("a folder")


def test_what_a_table_names_is_meant_wherever_it_lies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [
        "inside.png",
        "../beside.png",
        str(picture(tmp_path / "far" / "absolute.png")),
        "sub\\back.PNG",
        "link.png",
    ]
    for name in ("t/inside.png", "beside.png", "t/sub/back.png"):
        picture(tmp_path / name)
    (tmp_path / "t" / "link.png").symlink_to(tmp_path / "far" / "absolute.png")
    pd.DataFrame({"image": names}).to_csv(tmp_path / "t" / "list.csv", index=False)
    with ThreadPoolExecutor(1) as pool:
        rows = checked(listed(tmp_path / "t" / "list.csv"), pool)
    assert rows["status"].tolist() == ["ok"] * 5 and rows["image_id"].tolist() == names
    assert "1 files were found with" in caplog.text and "sub\\back.PNG: sub/back.png" in caplog.text


def test_a_data_frame_is_a_table_relative_to_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    frame = pd.DataFrame({"image": ["a.png", None], 7: [1.5, np.nan], "group": ["p", "q"]}, index=[4, 4])
    with ThreadPoolExecutor(1) as pool:
        rows = checked(listed(frame), pool)
    assert rows["status"].tolist() == ["ok", "missing"] and rows[f"{USER}7"].tolist() == [1.5, None]
    assert rows[f"{USER}group"].tolist() == ["p", "q"]
    assert listed(frame.set_index("image").tail(1))["image_id"].tolist() == ["the data frame: row 0"]
    assert listed(frame.head(1).set_index("image"))["image_id"].tolist() == ["a.png"], "an index may hold the names"
    for bad, said in (
        (frame.rename(columns={"group": "image"}), "two columns are named 'image'"),
        (frame.head(0), "no rows"),
        (frame[["group"]], "no column 'image' .* image_column"),
        (pd.DataFrame({"image": [[1, 2], [3]]}), "holds lists, not texts"),
        (pd.DataFrame({"image": [np.zeros(3)]}), "holds ndarrays, not texts"),
    ):
        with pytest.raises(InputError, match=said):
            listed(bad)


def test_a_text_or_a_path_is_one_input(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    for given in (str(file), file, [str(file)], (path for path in [file])):
        assert listed(given)["image_id"].tolist() == [str(file)]
    for wrong in ("", [""], [3], [None]):
        with pytest.raises(InputError, match="name images by a path"):
            listed(wrong)  # type: ignore[arg-type]


def test_a_file_is_meant_whether_it_exists_or_is_a_link(tmp_path: Path) -> None:
    real = picture(tmp_path / "elsewhere" / "real.png")
    (tmp_path / "link.png").symlink_to(real)
    with ThreadPoolExecutor(1) as pool:
        rows = checked(listed([tmp_path / "link.png", tmp_path / "none.png", "a\0b.png"]), pool)
    assert rows["status"].tolist() == ["ok", "missing", "missing"]


def test_nothing_and_the_same_thing_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images"):
        listed([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds no image"):
        listed([tmp_path / "empty"])
    with pytest.raises(InputError, match=f"none.png: no such file or folder .looked for {tmp_path}/none.png., nor"):
        listed([tmp_path / "none.png", tmp_path / "neither"])
    with pytest.raises(InputError, match="none.csv: no such file"):
        listed([tmp_path / "none.csv"])
    file = picture(tmp_path / "a.png")
    with pytest.raises(InputError, match="a.png: named twice"):
        listed([file, file])
    (tmp_path / "empty" / "list.csv").write_text("image\na.png\n")
    assert listed([tmp_path / "empty", file])["image_id"].tolist() == [str(file)], "one empty folder stops nobody"
    with pytest.raises(InputError, match="empty: holds no image; perhaps you mean .*empty/list.csv$"):
        listed(tmp_path / "empty")


def test_equal_names_in_two_tables_are_two_images(tmp_path: Path) -> None:
    for place in ("phase2", "phase3"):
        picture(tmp_path / place / "1.bmp", 8 if place == "phase2" else 9)
        picture(tmp_path / place / f"of {place}.bmp")
        (tmp_path / place / "list.csv").write_text(f"image,n\n1.bmp,{place}\nof {place}.bmp,x\n")
    tables = [tmp_path / place / "list.csv" for place in ("phase2", "phase3")]
    rows = listed(tables)
    assert rows["image_id"].tolist() == [
        str(tmp_path / "phase2" / "1.bmp"), "of phase2.bmp", str(tmp_path / "phase3" / "1.bmp"), "of phase3.bmp",
    ]  # fmt: skip
    assert rows[f"{USER}n"].tolist() == ["phase2", "x", "phase3", "x"]
    with pytest.raises(InputError, match="1.bmp: named twice"):
        listed([tables[0], tables[0]])


VOC = """<annotation><filename>{name}</filename><size><width>40</width><height>40</height></size>{boxes}</annotation>"""
BOX = (
    "<object><name>{name}</name><bndbox><xmin>{x}</xmin><ymin>4</ymin><xmax>{y}</xmax><ymax>20</ymax></bndbox></object>"
)


def test_every_box_of_a_white_cell_is_a_row_and_no_image_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "b.png", "alone.png"):
        picture(tmp_path / name, 40)
    cells = BOX.format(name="WBC", x=4, y=20) + BOX.format(name="WBC", x=22, y=60) + BOX.format(name="RBC", x=1, y=9)
    (tmp_path / "a.xml").write_text(VOC.format(name="a.png", boxes=cells))
    (tmp_path / "b.xml").write_text(VOC.format(name="b.png", boxes=BOX.format(name="WBC", x=90, y=99)))
    with ThreadPoolExecutor(1) as pool:
        rows = checked(listed(tmp_path), pool)
    names = [Path(name).name for name in rows["image_id"]]
    assert names == ["a.png#1", "a.png#2", "b.png#1", "alone.png"]
    assert rows["status"].tolist() == ["ok", "ok", "bad_box", "ok"] and rows[f"{USER}label"][0] == "WBC"
    assert rows["right"].tolist()[:2] == [20, 40], "cut at the field's border"
    assert "1 boxes left out: RBC" in caplog.text and "1 images have no annotation, and are taken whole" in caplog.text


def test_a_table_of_boxes_has_a_row_per_box_with_its_columns(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 40)
    (tmp_path / "boxes.csv").write_text("image,x1,y1,x2,y2,note\na.png,1,1,9,9,p\na.png,20,20,30,30,q\n")
    with ThreadPoolExecutor(1) as pool:
        rows = checked(listed(tmp_path / "boxes.csv"), pool)
    assert rows["image_id"].tolist() == ["a.png#1", "a.png#2"] and rows["status"].tolist() == ["ok", "ok"]
    assert rows[f"{USER}note"].tolist() == ["p", "q"] and rows["left"].tolist() == [1, 20]


def test_texts_beside_images_are_no_boxes_unless_they_surely_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "a.txt").write_text("a nice cell\n")
    assert listed(tmp_path / "in")["name"].tolist() == ["a.png"] and "not taken for boxes" in caplog.text
    (tmp_path / "in" / "data.yaml").write_text("names: [WBC]\n")
    with pytest.raises(InputError, match="a.txt"):
        listed(tmp_path / "in")


def test_images_inside_parquet_files_are_rows_with_their_columns(tmp_path: Path) -> None:
    held = [{"bytes": picture(tmp_path / "x.png", side).read_bytes(), "path": f"{side}.png"} for side in (8, 9)]
    table = pa.table({"image": [*held, {"bytes": b"no image", "path": "bad.png"}], "site": ["s", "t", None]})
    (tmp_path / "shards").mkdir()
    for name in ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet"):
        pq.write_table(table, tmp_path / "shards" / name)
    with ThreadPoolExecutor(1) as pool:
        one = checked(listed(tmp_path / "shards" / "train-00000-of-00002.parquet"), pool)
        both = checked(listed(tmp_path / "shards"), pool)
    assert one["image_id"].tolist() == ["8.png", "9.png", "bad.png"] and one["width"].tolist()[:2] == [8, 9]
    assert one["status"].tolist() == ["ok", "ok", "not_an_image"] and one[f"{USER}site"].tolist() == ["s", "t", None]
    assert len(both) == 6 and both["image_id"].is_unique


def test_every_fault_is_a_status_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "in"
    picture(folder / "good.png")
    picture(folder / "large.png", 200)
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("<script>")
    whole = picture(tmp_path / "whole.png", 100).read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    secret = picture(tmp_path / "secret.png")
    (folder / "out.png").symlink_to(secret)
    with ThreadPoolExecutor(2) as pool:
        whole_size = checked(listed([folder / "large.png"]), pool)
        monkeypatch.setattr(inputs, "check_location", functools.partial(check_location, max_pixels=30_000))
        rows = checked(listed([folder]), pool).set_index("name")
    assert rows["status"].to_dict() == {
        "cut.png": "truncated", "empty.png": "not_an_image", "good.png": "ok", "large.png": "too_large",
        "out.png": "ok", "text.png": "not_an_image",
    }  # fmt: skip
    assert whole_size["status"].tolist() == ["ok"]
    assert (rows.loc[rows["status"] != "ok", "reason"] != "").all()


def test_names_that_are_no_utf_8_are_shown_with_escapes(tmp_path: Path) -> None:
    assert shown("ä\n'.png") == "ä\n'.png"
    raw = os.fsdecode(b"caf\xe9.png")
    assert shown(raw) == "caf\\xe9.png"
    folder = tmp_path / "in"
    picture(folder / raw)
    with ThreadPoolExecutor(1) as pool:
        rows = checked(listed([folder]), pool)
    assert rows["status"].tolist() == ["ok"] and rows["image_id"].tolist() == [str(folder / "caf\\xe9.png")]
    assert Path(rows["path"].iloc[0]).is_file(), "the path still opens the file"
