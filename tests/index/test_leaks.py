from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from buffycoat.core.errors import InputError
from buffycoat.data.tables.index import PIXELS
from buffycoat.index.overview import describe, look_at
from buffycoat.index.settings import Index, MakeLabels
from tests.index.cases import index, picture, run_index, statuses


def reasons(frame: pd.DataFrame) -> dict[str, str]:
    return dict(zip(frame["image_id"], frame["label_reason"], strict=True))


def doubts(summary: dict[str, Any]) -> str:
    return "\n".join(summary["doubts"])


def test_the_same_pixels_in_another_format_are_one_image(tmp_path: Path) -> None:
    for name, seed in [("a.bmp", 1), ("b.bmp", 2), ("c.bmp", 3), ("d.bmp", 4), ("e.bmp", 5)]:
        picture(tmp_path / name, seed)
    for name in "abc":
        Image.open(tmp_path / f"{name}.bmp").save(tmp_path / f"{name}.png")
    Image.open(tmp_path / "d.bmp").save(tmp_path / "d.webp", lossless=True)
    table = "image,label,split\na.bmp,SNE,train\na.png,,test\nb.bmp,SNE,train\nb.png,LY,train\nc.bmp,LY,train\n"
    table += "c.png,LY,train\nd.bmp,MO,train\nd.webp,MO,train\ne.bmp,SNE,train\n"
    frame, summary = index(tmp_path, table)
    assert statuses(frame) == {
        "a.bmp": "duplicate_of_test", "a.png": "ok", "b.bmp": "conflicting_duplicate", "b.png": "conflicting_duplicate",
        "c.bmp": "ok", "c.png": "duplicate", "d.bmp": "ok", "d.webp": "duplicate", "e.bmp": "ok",
    }  # fmt: skip
    told = reasons(frame)
    assert told["a.bmp"] == "the same pixels, in another file, as the test image a.png"
    assert told["c.png"] == "the same pixels, in another file, as c.bmp"
    assert told["b.png"] == "the same pixels in several files, with the labels LY, SNE"
    assert summary["near_copies"]["sets"] == 0, "they have their own statuses"


def test_near_copies_are_said_and_never_dropped(tmp_path: Path) -> None:
    for k in range(10):
        picture(tmp_path / f"{k}.png", k, 64)
    for k in (0, 1, 2, 3):
        Image.open(tmp_path / f"{k}.png").resize((96, 96), Image.Resampling.BICUBIC).save(tmp_path / f"again_{k}.png")
    rows = [*(f"{k}.png,SNE,train,p{k // 2}" for k in range(10)), "again_0.png,,test,q", "again_1.png,LY,train,p0"]
    rows += ["again_2.png,SNE,train,p9", "again_3.png,SNE,train,p1"]
    frame, summary = index(tmp_path, "image,label,split,group\n" + "\n".join(rows) + "\n")
    assert set(frame["label_status"]) == {"ok"}
    copies = summary["near_copies"]
    assert copies["sets"] == 4 and copies["images"] == 8 and copies["of_one_patient"] == 1
    assert copies["between"] == {"training and test": 1, "labels": 1, "patients": 1}
    assert [(pair["first"], pair["second"]) for pair in copies["pairs"]] == [
        ("0.png", "again_0.png"), ("1.png", "again_1.png"), ("2.png", "again_2.png"), ("3.png", "again_3.png"),
    ]  # fmt: skip
    assert (copies["pairs"][1]["first_label"], copies["pairs"][1]["second_label"]) == ("SNE", "LY")
    said = doubts(summary)
    assert "1 set of a training and a test image, for instance 0.png and again_0.png" in said
    assert "different labels" in said and "different patients" in said
    pixels = PIXELS.read(tmp_path / "out" / "pixels.parquet").set_index("image_id")
    assert pixels["near_copy_of"].dropna().to_dict() == {f"again_{k}.png": f"{k}.png" for k in range(4)}


TABLE = "image,label,split,group\n" + "".join(
    f"{k}.png,{'SNE' if k % 2 else 'LY'},{'test' if k >= 8 else 'train'},p{k % 5}\n" for k in range(10)
)
"""Patients p3 and p4 have a training image each (3.png, 4.png) and a test image (8.png, 9.png)."""


@pytest.mark.parametrize("setting", ["keep", "drop"])
def test_patients_on_both_sides_are_said_and_may_be_dropped(tmp_path: Path, setting: str) -> None:
    for k in range(10):
        picture(tmp_path / f"{k}.png", k)
    frame, summary = index(tmp_path, TABLE, patients_in_test=setting)
    told = summary["patients_in_test"]
    assert (told["patients"], told["training"], told["test"]) == (2, 2, 2) and told["examples"] == ["p3", "p4"]
    dropped = {name for name, status in statuses(frame).items() if status == "patient_in_test"}
    assert dropped == (set() if setting == "keep" else {"3.png", "4.png"}) and summary["trainable"] == 8 - len(dropped)
    assert "2 patients with both training and test images (2 and 2 images, for instance of p3)" in doubts(summary)
    if setting == "drop":
        assert reasons(frame)["3.png"] == "patient p3 has test images too"
        assert summary["statuses"]["patient_in_test"] == 2
    settings = Index(make_labels=MakeLabels(patients_in_test=setting))
    lines = describe(look_at(str(tmp_path / "cells.csv"), settings), settings.make_labels, 50, 32)
    assert any(line.startswith("careful: 2 patients with both") for line in lines), "before any image is read"


def test_patients_on_one_side_are_no_leak(tmp_path: Path) -> None:
    for k in range(10):
        picture(tmp_path / f"{k}.png", k)
    apart = TABLE.replace("8.png,LY,test,p3", "8.png,LY,test,q").replace("9.png,SNE,test,p4", "9.png,SNE,test,q")
    _, summary = index(tmp_path, apart)
    assert summary["patients_in_test"]["patients"] == 0 and summary["doubts"] == []
    _, summary = index(tmp_path, TABLE, groups="none")
    assert summary["patients_in_test"]["patients"] == 0, "the user says that there are no groups"


def test_a_group_column_with_one_image_per_value_does_nothing(tmp_path: Path) -> None:
    for k in range(6):
        picture(tmp_path / f"{k}.png", k)
    rows = [f"{k}.png,{'SNE' if k % 2 else 'LY'}" for k in range(6)]
    table = "image,label,group\n" + "".join(f"{row},cell {k}\n" for k, row in enumerate(rows))
    _, summary = index(tmp_path, table)
    assert "every group holds one image: grouping does nothing" in doubts(summary)
    lines = describe(look_at(str(tmp_path / "cells.csv"), Index()), MakeLabels(), 50, 32)
    assert any(line.startswith("careful: every group holds one image") for line in lines)
    _, summary = index(tmp_path, "image,label,group\n" + "".join(f"{row},p{k // 2}\n" for k, row in enumerate(rows)))
    assert summary["doubts"] == []


def test_patients_that_are_left_out_are_not_counted_as_learned(tmp_path: Path) -> None:
    """The first lines and the labels tell alike what is left to learn from."""
    for k in range(8):
        picture(tmp_path / f"{k}.png", k)
    rows = [(k, "SNE" if k % 2 else "LY", "test" if k > 5 else "train", "p1" if k in (1, 3, 5, 6) else "p2")
            for k in range(8)]  # fmt: skip
    (tmp_path / "cells.csv").write_text(
        "image,label,split,group\n" + "".join(f"{k}.png,{','.join(rest)}\n" for k, *rest in rows)
    )
    settings = {"make_labels": {"patients_in_test": "drop"}}
    seen = look_at(str(tmp_path / "cells.csv"), Index.model_validate(settings))
    assert "no image can be learned from" in seen.fault and seen.classes.total() == 0
    assert "all labelled" not in look_at(str(tmp_path / "cells.csv"), Index()).fault
    with pytest.raises(InputError, match="no image can be learned from.*6 patient_in_test"):
        run_index(tmp_path / "cells.csv", patients_in_test="drop")


def test_pixels_that_were_not_plain_are_counted_and_grey_among_coloured_is_said(tmp_path: Path) -> None:
    for k in range(4):
        path = picture(tmp_path / f"{k}.png", k)
        values = np.asarray(Image.open(path)).astype(np.uint16) * 16
        tifffile.imwrite(tmp_path / f"{k}.tif", values, photometric="rgb")
    for name, blue in (("cut_a.png", 90), ("cut_b.png", 120)):
        image = np.full((40, 40, 3), (10, 20, blue), np.uint8)
        image[12:28, 12:28] = np.asarray(Image.open(tmp_path / "3.png")) // 2 + 120
        Image.fromarray(image).save(tmp_path / name)
    Image.open(tmp_path / "0.png").convert("L").save(tmp_path / "grey.png")
    names = ["1.png", "2.png", *(f"{k}.tif" for k in range(4)), "cut_a.png", "cut_b.png", "grey.png"]
    labels = {name: "LY" if name == "grey.png" else "SNE" for name in names}
    frame, summary = index(tmp_path, "image,label\n" + "".join(f"{name},{label}\n" for name, label in labels.items()))
    said = doubts(summary)
    assert "4 images: 12 bits in a file of more: 4095 is white" in said
    assert "2 images: background of one colour: made white" in said
    assert "1 of 9 images are grey, the others coloured, for instance grey.png" in said
    pixels = PIXELS.read(tmp_path / "out" / "pixels.parquet").set_index("image_id")
    assert pixels.loc["1.tif", "note"].startswith("12 bits") and pixels.loc["1.png", "note"] == ""
    assert pixels["grey"].tolist() == [False] * 8 + [True]
