"""Lists as spreadsheets, pandas, R and people write them: read alike, or one line that says what is wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest

from buffycoat.core.errors import InputError
from buffycoat.index.lists import rows_digest
from buffycoat.index.rows import read_rows
from buffycoat.index.settings import Columns
from buffycoat.index.sources import column_of, read_table

HEADER, ROWS = ["image", "label", "um"], [["a b.png", "SNE", "12,5"], ["c.png", "LY", "9,0"], ["d.png", "", "1"]]


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("first", ["", "sep=%s\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_any_separator_is_read_with_decimal_commas(tmp_path: Path, separator: str, first: str, encoding: str) -> None:
    text = "".join(separator.join(row) + "\r\n" for row in [HEADER, *ROWS])
    found = read_rows(written(tmp_path / "t.csv", (first % separator if first else "") + text, encoding))
    assert (found.header, found.rows) == (HEADER, ROWS) and "separated by" in found.notes[0]
    assert found.lines == ([3, 4, 5] if first else [2, 3, 4])


def test_commas_stay_what_they_were(tmp_path: Path) -> None:
    found = read_rows(written(tmp_path / "t.csv", 'image,label\n"a;b,c|d.png",x;y\n"e\tf.png",z\n'))
    assert found.rows == [["a;b,c|d.png", "x;y"], ["e\tf.png", "z"]] and found.notes == []
    assert read_rows(written(tmp_path / "one.csv", "image\na;b.png\nc.png\n")).header == ["image"]


@pytest.mark.parametrize(
    "text",
    [
        ",image,label\n0,a.png,SNE\n1,b.png,LY\n",
        '"","image","label"\n"1","a.png","SNE"\n"2","b.png","LY"\n',
        "image,label\n1,a.png,SNE\n2,b.png,LY\n",
        "image,,label,\na.png,x,SNE,\nb.png,,LY,\n",
    ],
    ids=["pandas", "R write.csv", "R write.table", "in the middle"],
)
def test_columns_without_a_name_are_left_out_and_said(tmp_path: Path, text: str) -> None:
    found = read_rows(written(tmp_path / "t.csv", text))
    assert (found.header, found.rows) == (["image", "label"], [["a.png", "SNE"], ["b.png", "LY"]])
    assert "has no name" in found.notes[0]


def test_gzip_excel_and_parquet_hold_the_same_rows(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": ["a.png", "b.png"], "label": [1, 2], "um": [12.5, None], "ok": [True, False]})
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    frame.to_excel(tmp_path / "t.xlsx")
    frame.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv.gz", "t.xlsx", "t.parquet"):
        path = tmp_path / name
        read = read_table(path)
        assert [column_of(read, column, path) for column in ("image", "label", "um", "ok")] == [
            ["a.png", "b.png"], ["1", "2"], ["12.5", None], ["True", "False"],
        ], name  # fmt: skip
    digests = {rows_digest(str(tmp_path / name), Columns()) for name in ("t.csv.gz", "t.xlsx", "t.parquet")}
    assert len(digests) == 1, "the rows count, not how they are stored"


def test_of_several_sheets_the_first_is_read_and_said(tmp_path: Path) -> None:
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        pd.DataFrame([[None, None], ["image", "label"], ["a.png", "SNE"]]).to_excel(
            book, sheet_name="cells", header=False, index=False
        )
        pd.DataFrame({"note": ["x"]}).to_excel(book, sheet_name="notes")
    found = read_rows(tmp_path / "t.xlsx")
    assert (found.header, found.rows, found.lines) == (["image", "label"], [["a.png", "SNE"]], [3])
    assert "the sheet 'cells' is read; not read: notes" in found.notes[0]


def test_an_excel_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    for label in ("SNE", "LY"):
        pd.DataFrame({"image": ["a.png"], "label": [label]}).to_excel(tmp_path / "t.xlsx", index=False)
        assert read_rows(tmp_path / "t.xlsx").rows == [["a.png", label]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "the file is empty"),
        (
            "t.csv",
            b"image;label;um\na.png;SNE\n",
            r"line 2: 2 values, but the header names 3 columns \(separated by semi",
        ),
        ("t.csv", b"image,label,um\na.png,SNE,12,5\n", "line 2: 4 values.*a value that holds a comma needs quotes"),
        ("t.csv", b"PK\x03\x04...", "an Excel file or an archive by its content"),
        ("t.csv", b"PAR1...", "a Parquet file by its content"),
        ("t.xlsx", b"image,label\n", "not a readable Excel file"),
        ("t.csv.gz", gzip.compress(b"image,label\na.png,SNE\n" * 50)[:30], "not a whole gzip file"),
        ("t.xlsx", None, "no such file"),
        ("t.csv", None, "no such file"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_rows(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_repeated_names_matter_where_they_are_used(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "image,note,label,note\na.png,1,SNE,2\n")
    assert column_of(read_table(path), "label", path) == ["SNE"]
    with pytest.raises(InputError, match="the header has a repeated name: 'note'"):
        column_of(read_table(path), "note", path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "file_name,label",
            r"no column 'image' \(found: file_name, label\); perhaps index: {columns: {image: file_name}}",
        ),
        ("image label", "the header is one column: separate the values by commas"),
        ("picture,label", r"name yours in index\.columns\.image"),
    ],
)
def test_a_missing_column_comes_with_advice(tmp_path: Path, header: str, message: str) -> None:
    path = written(tmp_path / "t.csv", f"{header}\n{','.join('x' * len(header.split(',')))}\n")
    with pytest.raises(InputError, match=message):
        column_of(read_table(path), "image", path, "index.columns.image")


def test_a_column_per_class_is_seen(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "image,LY,MO,SNE\na.png,0,0,1\n")
    with pytest.raises(InputError, match="LY, MO, SNE look like a column per class"):
        column_of(read_table(path), "label", path, "index.columns.label")
