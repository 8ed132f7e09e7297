"""What is given becomes one row per image."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from buffycoat.bundle import predictor
from buffycoat.bundle.predictor import checked, listed, shown
from buffycoat.core.errors import InputError
from buffycoat.index.make_index import check_file


def picture(path: Path, side: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), 200, np.uint8)).save(path)
    return path


def test_a_folder_stands_for_every_file_below_it_in_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("b.png", "a/z.png", "a/.hidden.png", "c.png"):
        picture(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    rows = listed([tmp_path / "in"])
    assert rows["name"].tolist() == ["a/z.png", "b.png", "c.png", "notes.txt"]
    assert rows["image_id"].tolist() == [str(tmp_path / "in" / name) for name in rows["name"]]
    assert "1 hidden" in caplog.text


def test_a_table_stands_for_its_rows_relative_to_its_folder(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("file,note\nx/a.png,1\n ../b.png ,2\n")
    rows = listed([table], "file")
    assert rows["image_id"].tolist() == ["x/a.png", "../b.png"] and set(rows["root"]) == {str(tmp_path)}
    pd.DataFrame({"image": ["q.png"]}).to_parquet(tmp_path / "list.parquet")
    assert listed([tmp_path / "list.parquet"])["name"].tolist() == ["q.png"]
    with pytest.raises(InputError, match=r"list.csv: no column 'image' \(found: file, note\); .*--image-column"):
        listed([table])
    table.write_text("image,note\na.png,1\n,2\n")
    with pytest.raises(InputError, match="line 3: the image's name is empty"):
        listed([table])


def test_a_file_is_meant_whether_it_exists_or_is_a_link(tmp_path: Path) -> None:
    real = picture(tmp_path / "elsewhere" / "real.png")
    (tmp_path / "link.png").symlink_to(real)
    with ThreadPoolExecutor(1) as pool:
        rows = checked(listed([tmp_path / "link.png", tmp_path / "none.png"]), pool)
    assert rows["status"].tolist() == ["ok", "missing"]


def test_nothing_and_the_same_thing_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images"):
        listed([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds no file"):
        listed([tmp_path / "empty"])
    file = picture(tmp_path / "a.png")
    with pytest.raises(InputError, match="a.png: named twice"):
        listed([file, file])


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
        monkeypatch.setattr(predictor, "check_file", functools.partial(check_file, max_pixels=30_000))
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
