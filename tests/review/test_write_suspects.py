"""The page and the spreadsheet of suspects: order, counts, escaping, and formulas that stay texts."""

from __future__ import annotations

import csv
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from buffycoat.core.errors import InputError
from buffycoat.data.drawn import NOTE, SMEARS
from buffycoat.data.images import BACKGROUND, CYTOPLASM, ShardWriter
from buffycoat.data.pages import disarmed
from buffycoat.data.tables.restore import CELLS
from buffycoat.data.tables.review import SUSPECTS
from buffycoat.review import write_suspects as module
from buffycoat.review.write_suspects import KINDS, of_kind, write_suspects

EVIL = '"><script>alert(1)</script>'
FORMULA = "=1+1.png"
IDS = [FORMULA, EVIL, *(f"{k}.png" for k in range(2, 12))]


def table() -> pd.DataFrame:
    """Twelve images: seven labels in doubt, two disputed, two unfamiliar, two far, two of two kinds, one of none."""
    kinds = ["label"] * 6 + ["disagreement", "label,distance", "energy", "disagreement,energy", "distance", ""]
    frame = pd.DataFrame({"image_id": IDS, "kinds": kinds})
    frame["role"] = ["train"] * 8 + ["test", "test", "train", "train"]
    tested = frame["role"] == "test"
    frame["given_label"] = pd.Series([EVIL, *["LY"] * 4, "MO", "MO", "MO", None, None, "LY", "LY"], dtype=object)
    frame = frame.assign(source=np.where(tested, "fold_mean", "out_of_fold"), branch_a_label="LY", branch_b_label="MO")
    frame = frame.assign(energy=-np.arange(12.0), energy_quantile=0.5, feature_distance=np.arange(12.0))
    frame = frame.assign(feature_distance_quantile=0.5, disagreement=0.1 * np.arange(12) / 12)
    frame["label_doubt"] = pd.Series(np.linspace(0.99, 0.5, 12)).mask(tested)
    frame["label_rank"] = pd.Series([1, 1, 2, 3, 4, 1, 3, 2, None, None, 9, 10], dtype="Int32")
    frame["likely_label"] = frame["given_label"]
    frame = frame.assign(cell_found=True, cells=1, probability=np.linspace(0.9, 0.3, 12))
    frame["suspect"] = frame["kinds"] != ""
    frame["reason"] = frame["kinds"].map(lambda kind: f"Because of {kind} & <b>." if kind else "")
    frame.loc[10, ["branch_b_label", "disagreement", "feature_distance", "feature_distance_quantile"]] = None
    return frame


def write(folder: Path, frame: pd.DataFrame, data: str = "cells") -> str:
    """Run the step on drawn cells; return the page."""
    rows = []
    with ShardWriter(folder / "shards", 32) as writer:
        for image_id in IDS:
            mask = np.full((32, 32), BACKGROUND, np.uint8)
            mask[8:24, 8:24] = CYTOPLASM
            shard, row, crc = writer.add(image_id, np.zeros((32, 32, 3), np.uint8), mask)
            rows.append({"image_id": image_id, "shard": f"shards/{shard}", "shard_row": row, "crc32": crc})
    changes = dict.fromkeys(("noise_after", "nucleus_change", "cell_change"), np.nan)
    CELLS.write(pd.DataFrame(rows).assign(restored=False, noise_before=1.0, reason="", **changes), folder / "c.parquet")
    SUSPECTS.write(frame, folder / "suspects.parquet")
    write_suspects(
        suspects=folder / "suspects.parquet", cells=folder / "c.parquet", page=folder / "suspects.html",
        csv=folder / "suspects.csv", data=data,
    )  # fmt: skip
    return (folder / "suspects.html").read_text()


class Tags(HTMLParser):
    """Collects tags, and what the page would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [str(value) for name, value in attrs if name in ("src", "srcset")]


def test_the_page_shows_every_kind_and_escapes_what_it_shows(tmp_path: Path) -> None:
    page = write(tmp_path, table())
    found = Tags(page)
    assert "script" not in found.tags and found.tags.count("img") == 7 + 2 + 2 + 2
    assert all(address.startswith("data:image/jpeg") for address in found.fetched)
    assert page.count("&lt;script&gt;") >= 2 and "Because of label &amp; &lt;b&gt;." in page
    assert "11 of 12 images" in page and "7 training images, 0 others." in page and "1 training image, 1 other." in page
    assert "test image" in page and ">11.png<" not in page


def test_the_most_suspect_come_first_and_classes_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = table()
    assert of_kind(frame, "label").index.tolist() == [0, 1, 5, 2, 7, 3, 4]
    assert of_kind(frame, "energy").index.tolist() == [8, 9]
    assert of_kind(frame, "disagreement").index.tolist() == [9, 6]
    unsure = frame.assign(kinds="probability").iloc[:3]
    assert of_kind(unsure, "probability").index.tolist() == [2, 1, 0], "the least probable first"
    assert of_kind(frame, "distance").index.tolist() == [7, 10], "a gap comes last"
    monkeypatch.setattr(module, "MOST", 1)
    page = write(tmp_path, frame)
    assert Tags(page).tags.count("img") == 4 and "the first 1 are shown" in page


def test_a_page_of_drawn_cells_says_so(tmp_path: Path) -> None:
    assert NOTE in write(tmp_path / "drawn", table(), SMEARS)
    assert "drawn" not in write(tmp_path / "own", table())


def test_without_suspects_the_page_says_so(tmp_path: Path) -> None:
    page = write(tmp_path, table().assign(kinds="", reason="", suspect=False))
    assert "0 of 12 images" in page and page.count(">None.<") == len(KINDS) and "img" not in Tags(page).tags
    assert (tmp_path / "suspects.csv").read_text().count("\n") == 1


def test_the_spreadsheet_has_every_suspect_and_no_formula(tmp_path: Path) -> None:
    write(tmp_path, table())
    with (tmp_path / "suspects.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["image_id"] for row in rows} == {f"'{FORMULA}", *IDS[1:11]}
    assert [row["image_id"] for row in rows[:2]] == ["7.png", "9.png"], "those of two kinds first"
    assert rows[0]["energy"] == "-7", "a number below 0 stays one"
    assert rows[1]["label_rank"] == "" and rows[0]["label_rank"] == "2"


@pytest.mark.parametrize("text", ["=A1", "+1", "-1", "@x", "\tx", "\rx", "\nx"])
def test_a_text_that_would_be_computed_is_disarmed(text: str) -> None:
    assert disarmed(text) == f"'{text}"


def test_what_would_not_be_computed_stays() -> None:
    assert disarmed("a=1") == "a=1" and disarmed("") == "" and disarmed(-1.5) == -1.5 and disarmed(None) is None


def test_cells_of_another_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 invented"):
        write(tmp_path, table().iloc[:-1])
