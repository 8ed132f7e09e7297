from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from buffycoat.index.places import Finder, compiled_pattern, files_below, holds_image
from tests.index.cases import picture


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("img/a.jpg", "img/B.TIF", "img/c.png", "img/c.bmp", "img/Größe.png", "Deep/er/d.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_names_are_found_as_people_write_them(root: Path) -> None:
    finder = Finder(root)
    for name, found in {
        "img/a.jpg": ("img/a.jpg", ""),
        "img/../img//a.jpg": ("img/../img//a.jpg", ""),
        str(root / "img/a.jpg"): (str(root / "img/a.jpg"), ""),
        "img\\a.jpg": ("img/a.jpg", "slashes"),
        "IMG\\A.JPG": ("img/a.jpg", "case"),
        "deep/ER/d.WEBP": ("Deep/er/d.webp", "case"),
        str(root / "IMG" / "b.tif"): (str(root / "img" / "B.TIF"), "case"),
        "img/a.png": ("img/a.jpg", "suffix"),
        "img/a": ("img/a.jpg", "suffix"),
        "img\\b.jpeg": ("img/B.TIF", "suffix"),
        unicodedata.normalize("NFD", "img/Größe.png"): ("img/Größe.png", "case"),
    }.items():
        assert finder.find(name) == found, name


@pytest.mark.parametrize(
    "name", ["img/c.jpg", "img/x.jpg", "nope/a.jpg", "a\0b", "x" * 5000, "a/" * 3000, "~nobody/a.jpg"]
)
def test_what_is_not_there_or_not_clear_is_not_found(root: Path, name: str) -> None:
    assert Finder(root).find(name) is None


def test_home_is_expanded_unless_a_file_is_called_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root))
    assert Finder(root / "img").find("~/img/a.jpg") == (str(root / "img" / "a.jpg"), "~")
    (root / "img" / "~x.jpg").write_bytes(b"")
    assert Finder(root / "img").find("~x.jpg") == ("~x.jpg", "")


def test_advice_says_where_files_are_instead(root: Path) -> None:
    assert "shorten the names in the table to img/a.jpg" in Finder(root).near("/content/drive/img/a.jpg")
    assert "shorten the names in the table to a.jpg" in Finder(root / "img").near("D:\\cells\\img\\a.jpg")
    assert f"set index.make_index.root: {root / 'img'}" in Finder(root).near("a.jpg")
    assert Finder(root).near("nowhere.jpg") == ""


def test_links_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    picture(tmp_path / "store" / "a.png", 1)
    os.symlink(tmp_path / "store", tmp_path / "store" / "circle")
    (tmp_path / "set").mkdir()
    os.symlink(tmp_path / "store", tmp_path / "set" / "SNE")
    os.symlink("../store", tmp_path / "set" / "LY")
    os.symlink(tmp_path / "store" / "a.png", tmp_path / "set" / "b.png")
    (tmp_path / "set" / "Thumbs.db").write_bytes(b"x")
    assert list(files_below(tmp_path / "set")) == ["LY/a.png", "SNE/a.png", "b.png"]
    assert holds_image(str(tmp_path / "set" / "LY"))


def test_the_order_is_that_of_names_folder_by_folder(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.png", "a.png", "a/x.png", "a b/y.png", "B/z.png"):
        picture(tmp_path / name, 1)
    expected = [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*.png"))]
    assert list(files_below(tmp_path)) == expected


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("<group>/<label>/<file>", "p1/SNE/x/a.png", {"group": "p1", "label": "SNE", "file": "x/a.png"}),
        ("<label>/<group>", "SNE/p 1/a.png", {"label": "SNE", "group": "p 1", "file": "a.png"}),
        ("f*/<label>/UID_<group>_<file>", "f0/hem/UID_H7_3_1.bmp", {"label": "hem", "group": "H7", "file": "3_1.bmp"}),
        ("*/<split>/<label>", "a.b/test/LY/c.png", {"split": "test", "label": "LY", "file": "c.png"}),
        ("<label>_<file>", "SNE_003.png", {"label": "SNE", "file": "003.png"}),
        ("<group>/<label>/<file>", "SNE/a.png", None),
    ],
)  # fmt: skip
def test_patterns_name_the_parts_of_a_path(pattern: str, name: str, found: dict[str, str] | None) -> None:
    matched = compiled_pattern(pattern).fullmatch(name)
    assert (matched.groupdict() if matched else None) == found


@pytest.mark.parametrize("pattern", ["<group>/<file>", "<patient>/<label>", "<label>/<label>", "{group}/<label>", ""])
def test_a_pattern_that_means_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="a pattern is made of <label>, <group>"):
        compiled_pattern(pattern)
