"""File names, pictures and lists as people have them: every odd one is used, or is a row with a reason."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from buffycoat.core.errors import InputError
from buffycoat.crop.crop_cells import crop_cells
from buffycoat.crop.segmenter_samples import read_mask_set
from buffycoat.crop.settings import CropCells
from buffycoat.data.images import CellImages, ImageProblem, decode_image
from buffycoat.data.pages import write_spreadsheet
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import IMAGES, LABELS
from buffycoat.index.make_index import make_index
from buffycoat.index.make_labels import make_labels
from buffycoat.index.settings import Columns, MakeIndex, MakeLabels
from buffycoat.index.sources import read_listing, read_table
from buffycoat.report.write_predictions import write_submission
from tests.faults.steps_run import REPOSITORY, one_line, picture, run_step

NAMES = [
    "plain.png", "with space.png", "quote'd.png", 'double"quoted".png', "Größe.png", "血球.png",
    "e\u0301 combining.png", "🩸.png", "line\nbreak.png", "carriage\rreturn.png", "tab\tbed.png",
    "-rf.png", "--help.png", "$HOME.png", "`id`.png", "{braces}.png", "%s %(x)d.png", "a;b,c|d&e.png",
    "star*?[x].png", "back\\slash.png", "#hash.png", "=1+1.png", "@SUM(A1).png", "<b>&amp;.png",
    "~tilde.png", "trailing dot..png", "no suffix", ".hidden.png", "sub folder/ü/x.png",
    "x" * 250 + ".png",
]  # fmt: skip


def indexed_and_cropped(folder: Path, names: list[str], table: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run both steps on a table; return the images and the crops."""
    out = folder.parent / "out"
    make_index(data=table, images=out / "images.parquet", threads=2, columns=Columns(), settings=MakeIndex())
    crop_cells(
        images=out / "images.parquet", crops=out / "crops.parquet", shards=out / "shards",
        settings=CropCells(method="stain", window_px=40, size_px=16),
    )  # fmt: skip
    crops = CROPS.read(out / "crops.parquet")
    assert sum(1 for _ in CellImages(crops, out / "crops.parquet")) == len(crops)
    return IMAGES.read(out / "images.parquet"), crops


def write_list(path: Path, rows: list[tuple[str, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    return path


def test_every_name_that_a_file_system_takes_goes_through_index_and_crop(tmp_path: Path) -> None:
    folder = tmp_path / "my {cells} $1 'x'\n"
    for k, name in enumerate(NAMES):
        picture(folder / name, k)
    table = write_list(folder / "list.csv", [("image", "label"), *((name, "SNE") for name in NAMES)])
    images, crops = indexed_and_cropped(folder, NAMES, table)
    assert images["image_id"].tolist() == NAMES and set(images["status"]) == {"ok"}, images["reason"].tolist()
    assert crops["image_id"].tolist() == NAMES


def test_a_name_with_a_line_break_still_gives_one_line_of_error(tmp_path: Path) -> None:
    picture(tmp_path / "a\nb.png", 1)
    table = write_list(tmp_path / "l.csv", [("image", "label"), ("a\nb.png", "SNE"), ("a\nb.png", "LY")])
    shown = run_step("index.make_index", {}, data=table, columns="{}", images=tmp_path / "images")
    assert "listed twice" in one_line(shown)


def odd_pictures(folder: Path) -> dict[str, int]:
    """Write one picture of each kind, all of the same grey ramp; return the greatest error allowed, grey levels."""
    folder.mkdir()
    ramp = np.tile(np.linspace(0, 255, 64).round().astype(np.uint8), (64, 1))
    deep, rgb = ramp.astype(np.uint16) * 257, np.repeat(ramp[..., None], 3, axis=2)
    plain = Image.fromarray(ramp)
    plain.save(folder / "grey.png")
    plain.save(folder / "grey.jpg", quality=95)
    plain.convert("1", dither=Image.Dither.NONE).save(folder / "one bit.png")
    Image.fromarray(deep).save(folder / "16 bit.png")
    Image.fromarray(deep).save(folder / "16 bit.tif")
    Image.fromarray(deep.astype(">u2")).save(folder / "16 bit big endian.tif")
    Image.fromarray(deep.astype(np.int32)).save(folder / "32 bit.tif")
    Image.fromarray(ramp.astype(np.float32)).save(folder / "float 255.tif")
    Image.fromarray(ramp.astype(np.float32) / 255).save(folder / "float 1.tif")
    Image.fromarray(rgb).convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    Image.fromarray(rgb).convert("CMYK").save(folder / "cmyk.tif")
    Image.fromarray(rgb).convert("YCbCr").save(folder / "ycbcr.tif")
    plain.convert("P").save(folder / "palette.png")
    Image.fromarray(np.dstack([rgb, np.full((64, 64), 255, np.uint8)])).save(folder / "opaque.png")
    Image.fromarray(np.dstack([ramp, np.full((64, 64), 255, np.uint8)])).save(folder / "grey and alpha.png")
    rotated = Image.Exif()
    rotated[0x0112] = 3
    Image.fromarray(rgb).save(folder / "exif.jpg", quality=95, exif=rotated)
    frames = [Image.fromarray(255 - rgb), Image.fromarray(255 - rgb)]
    Image.fromarray(rgb).save(folder / "animated.png", save_all=True, append_images=frames)
    Image.fromarray(rgb).save(folder / "animated.webp", save_all=True, append_images=frames, lossless=True)
    Image.fromarray(rgb).save(folder / "pages.tif", save_all=True, append_images=frames)
    Image.fromarray(rgb).save(folder / "wrong suffix.jpg", "PNG")
    return {path.name: 128 if path.name == "one bit.png" else 6 for path in folder.iterdir()}


def test_pictures_of_every_kind_become_the_same_pixels_and_go_through_index_and_crop(tmp_path: Path) -> None:
    kinds = odd_pictures(tmp_path / "in")
    ramp = np.tile(np.linspace(0, 255, 64), (64, 1))
    for name, allowed in kinds.items():
        pixels = decode_image(tmp_path / "in" / name)
        assert pixels.shape == (64, 64, 3) and pixels.dtype == np.uint8, name
        assert np.abs(pixels - ramp[..., None]).max() <= allowed, name
    table = write_list(tmp_path / "in" / "list.csv", [("image", "label"), *((name, "SNE") for name in kinds)])
    images, crops = indexed_and_cropped(tmp_path / "in", list(kinds), table)
    assert set(images["status"]) == {"ok"} and crops["image_id"].tolist() == list(kinds)


def test_a_picture_of_numbers_that_are_none_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(ImageProblem, match=r"nan\.tif: holds values that are no numbers"):
        decode_image(tmp_path / "nan.tif")


def test_the_input_folder_is_only_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for k in range(3):
        picture(folder / f"{k}.png", k)
    table = write_list(folder / "list.csv", [("image", "label"), *((f"{k}.png", "SNE") for k in range(3))])
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]}
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    try:
        images, _ = indexed_and_cropped(folder, [], table)
    finally:
        folder.chmod(0o755)
    assert set(images["status"]) == {"ok"}
    assert before == {path: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]}


def test_a_list_that_is_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        read_table(tmp_path)
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        read_mask_set(tmp_path)


MEASURED = """
import resource, sys, time
from buffycoat.index.settings import Columns, MakeIndex
from buffycoat.index.sources import read_listing
before = resource.getrusage(resource.RUSAGE_SELF)
listing = read_listing(sys.argv[1], Columns(), MakeIndex())
after = resource.getrusage(resource.RUSAGE_SELF)
print(len(listing.frame), after.ru_utime - before.ru_utime, (after.ru_maxrss - before.ru_maxrss) / 1024)
"""


def test_a_list_of_a_million_rows_is_read_in_seconds(tmp_path: Path) -> None:
    labels = ("SNE", "LY", "MO", "PLY")
    rows = (f"phase1/{k:08d}.jpg,{labels[k % 4]},{'train' if k % 5 else 'test'},p{k // 90}\n" for k in range(1_000_000))
    (tmp_path / "long.csv").write_text("image,label,split,group\n" + "".join(rows))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "long.csv")]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    count, seconds, megabytes = (float(value) for value in shown.stdout.split())
    assert count == 1_000_000 and seconds < 15 and megabytes < 1000, shown.stdout


def test_a_list_in_utf_16_as_a_spreadsheet_writes_it(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes("image,label\r\nZellé 血.png,SNE\r\n".encode("utf-16"))
    assert read_table(tmp_path / "l.csv")["image"].tolist() == ["Zellé 血.png"]


def test_a_column_may_be_called_line(tmp_path: Path) -> None:
    """Cell lines are groups: no column of the user's is taken for a line number."""
    picture(tmp_path / "a.png", 1)
    picture(tmp_path / "b.png", 2)
    rows = [("image", "label", "line"), ("a.png", "SNE", "HL-60"), ("b.png", "LY", "HL-60")]
    table = write_list(tmp_path / "l.csv", rows)
    out = {name: tmp_path / name for name in ("images", "labels", "classes", "test_labels", "summary")}
    make_index(data=table, images=out["images"], columns=Columns(), settings=MakeIndex())
    make_labels(data=table, **out, columns=Columns(group="line"), settings=MakeLabels())
    assert LABELS.read(out["labels"])["group"].tolist() == ["HL-60", "HL-60"]


def test_parquet_lists_with_an_index_gaps_and_odd_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame({"label": ["SNE", None], "group": [3, None]}, index=pd.Index(["a.png", "b.png"], name="image"))
    frame.astype({"group": "Int64"}).to_parquet(tmp_path / "p.parquet")
    read = read_table(tmp_path / "p.parquet")
    assert read["image"].tolist() == ["a.png", "b.png"] and read["label"].tolist() == ["SNE", None]
    assert read["group"].tolist() == [3, None], "whole numbers stay whole"
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["image", "image"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    assert read_table(tmp_path / "twice.parquet").columns.tolist() == ["image", "image (2)"]
    with pytest.raises(InputError, match=r"twice\.parquet: the header has a repeated name: 'image'"):
        read_listing(str(tmp_path / "twice.parquet"), Columns(), MakeIndex())
    pq.write_table(pa.table({"image": [["a", "b"]], "label": ["SNE"]}), tmp_path / "nested.parquet")
    with pytest.raises(InputError, match=r"nested\.parquet: column 'image' holds ndarrays"):
        make_index(
            data=tmp_path / "nested.parquet", images=tmp_path / "i", columns=Columns(), settings=MakeIndex(),
        )  # fmt: skip


@pytest.mark.parametrize("name", [name for name in NAMES if "/" not in name])
def test_names_survive_every_csv_that_is_written(tmp_path: Path, name: str) -> None:
    write_submission([(name, "=cmd"), ("b.png", "SNE")], tmp_path / "submission.csv")
    write_spreadsheet(pd.DataFrame({"image_id": [name], "energy": [-1.5]}), tmp_path / "table.csv")
    with (tmp_path / "submission.csv").open(newline="", encoding="utf-8") as stream:
        assert list(csv.reader(stream)) == [["ID", "labels"], [name, "=cmd"], ["b.png", "SNE"]]
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as stream:
        shown = list(csv.reader(stream))[1]
    assert shown[0].removeprefix("'") == name and shown[1] == "-1.5"
    assert not re.match(r"[=+\-@\t\r\n]", shown[0]), "nothing that a spreadsheet would compute"


def test_a_label_that_is_a_formula_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_submission([("a.png", '=HYPERLINK("x")')], tmp_path / "s.csv")
    assert "begin as a formula" in caplog.text
