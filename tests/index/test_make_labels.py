from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffycoat.core.errors import InputError
from buffycoat.data.tables.index import CLASSES, TEST_LABELS
from buffycoat.index.lists import rows_digest
from buffycoat.index.make_labels import split_into_runs
from buffycoat.index.settings import Columns, MakeLabels
from tests.index.cases import index, picture, relabel, run_index, statuses, wbcbench


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
    assert set(frame.loc[(frame["role"] == "train") & (frame["label_status"] == "ok"), "image_id"]) == {
        "a.png",
        "g.png",
    }


def test_labels_of_test_images_are_kept_apart(tmp_path: Path) -> None:
    for k in range(4):
        picture(tmp_path / f"{k}.png", k)
    frame, _ = index(tmp_path, "image,label,split\n0.png,SNE,train\n1.png,LY,train\n2.png,SNE,test\n3.png,LY,test\n")
    assert frame.loc[frame["role"] == "test", "label"].isna().all()
    answers = TEST_LABELS.read(tmp_path / "out" / "test_labels.parquet")
    assert dict(zip(answers["image_id"], answers["label"], strict=True)) == {"2.png": "SNE", "3.png": "LY"}


def test_own_classes_and_aliases(tmp_path: Path) -> None:
    for k in range(3):
        picture(tmp_path / f"{k}.png", k)
    table = "image,label\n0.png,neutrophil\n1.png,SMUDGE\n2.png,SNE\n"
    frame, _ = index(tmp_path, table, classes=["SMUDGE", "SNE"], label_aliases={"neutrophil": "SNE"})
    assert frame["label"].tolist() == ["SNE", "SMUDGE", "SNE"] and (frame["label_status"] == "ok").all()
    classes = CLASSES.read(tmp_path / "out" / "classes.parquet")
    assert classes["code"].tolist() == ["SMUDGE", "SNE"] and classes["images"].tolist() == [1, 2]


def test_labels_that_are_no_codes_are_classes_themselves(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for k in range(3):
        picture(tmp_path / f"{k}.png", k)
    caplog.set_level(logging.INFO, "buffycoat")
    frame, _ = index(tmp_path, "image,label\n0.png,<b> & co.\n1.png,Größe 2/3\n2.png,<b> & co.\n")
    assert (frame["label_status"] == "ok").all()
    classes = CLASSES.read(tmp_path / "out" / "classes.parquet")
    assert classes["code"].tolist() == ["<b> & co.", "Größe 2/3"]
    assert sum("the labels themselves are the classes" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("code", ["image_id", "label", "probability", "all", "{fold}", "$x$", "a\tb"])
def test_a_class_that_no_table_could_hold_is_refused(tmp_path: Path, code: str) -> None:
    picture(tmp_path / "a.png", 1)
    picture(tmp_path / "b.png", 2)
    table = f"image,label\na.png,{code}\nb.png,other\n"
    with pytest.raises(InputError, match="a class cannot be called so.*label_aliases"):
        index(tmp_path, table)
    frame, _ = index(tmp_path, table, label_aliases={code: "SNE", "other": "LY"})
    assert frame["label"].tolist() == ["SNE", "LY"]


def test_one_image_classes_are_warned_of(tmp_path: Path) -> None:
    for k in range(3):
        picture(tmp_path / f"{k}.png", k)
    _, summary = index(tmp_path, "image,label\n0.png,SNE\n1.png,SNE\n2.png,PLY\n")
    assert any("PLY has one training image" in warning for warning in summary["warnings"])  # type: ignore[attr-defined]


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


def tables(out: Path) -> dict[str, bytes]:
    return {name: (out / f"{name}.parquet").read_bytes() for name in ("images", "labels")}


def test_the_index_is_blind_to_labels_and_patients(tmp_path: Path) -> None:
    for k in range(4):
        picture(tmp_path / f"{k}.png", k % 3)
    picture(tmp_path / "4.png", 4)
    index(tmp_path, "image,label,group\n0.png,SNE,p\n1.png,LY,p\n2.png,LY,q\n3.png,SNE,q\n4.png,LY,p\n")
    before = tables(tmp_path / "out")
    frame, _ = index(
        tmp_path, "image,label,group,note\n0.png,LY,q,x\n1.png,,p,\n2.png,MO,q,\n3.png,SNE,q,\n4.png,LY,p,\n"
    )
    after = tables(tmp_path / "out")
    assert before["images"] == after["images"] and before["labels"] != after["labels"]
    assert statuses(frame) == {
        "0.png": "conflicting_duplicate", "1.png": "unlabelled", "2.png": "ok", "3.png": "conflicting_duplicate",
        "4.png": "ok",
    }  # fmt: skip
    assert frame["group"].tolist() == ["q", "p", "q", "q", "p"]


def test_labels_of_other_images_than_the_index_has_are_refused(tmp_path: Path) -> None:
    for k in range(3):
        picture(tmp_path / f"{k}.png", k)
    index(tmp_path, "image,label\n0.png,SNE\n1.png,LY\n")
    (tmp_path / "cells.csv").write_text("image,label\n0.png,SNE\n2.png,LY\n")
    with pytest.raises(InputError, match="other images than images.parquet; run once with --forcerun make_index"):
        relabel(tmp_path / "cells.csv", Columns(), MakeLabels())


def test_a_data_set_without_a_usable_label_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    with pytest.raises(InputError, match=r"cells\.csv: no image can be learned from: .*\(1 unlabelled\)"):
        index(tmp_path, "image,label\na.png,\n", classes=["SNE"])


@pytest.mark.parametrize("groups", ["given", "none", "pseudo_patients"])
def test_patients_are_given_recovered_or_unknown(tmp_path: Path, groups: str) -> None:
    frame, summary = run_index(wbcbench(tmp_path / "w"), groups=groups)
    tested = frame["role"] == "test"
    assert frame.loc[tested, "group"].isna().all()
    assert frame.loc[~tested, "group"].notna().all() == (groups == "pseudo_patients") == (summary["groups"] is not None)


def test_answers_of_the_challenge_come_from_their_own_file(tmp_path: Path) -> None:
    root = wbcbench(tmp_path / "w")
    (tmp_path / "answers.csv").write_text("ID,labels\n00000019.jpg,BA\n00000020.jpg,alien\n00000001.jpg,LY\n")
    run_index(root, test_labels=str(tmp_path / "answers.csv"))
    answers = TEST_LABELS.read(tmp_path / "out" / "test_labels.parquet")
    assert answers.to_numpy().tolist() == [["00000019.jpg", "BA"]], "of test images, and of classes"


ROWS = [["image", "label", "split", "group"], *([f"{k}.png", "SNE", "train", f"p{k}"] for k in range(20))]


def digest(folder: Path, rows: list[list[str]], **settings: object) -> str:
    """Write the rows as the list and return the digest of what the index reads of it."""
    (folder / "cells.csv").write_text("".join(",".join(row) + "\n" for row in rows))
    return rows_digest(str(folder / "cells.csv"), Columns.model_validate(settings))


def changed(row: int, column: int, value: str) -> list[list[str]]:
    return [[value if (i, j) == (row, column) else cell for j, cell in enumerate(r)] for i, r in enumerate(ROWS)]


def test_corrected_labels_and_patients_do_not_change_the_rows(tmp_path: Path) -> None:
    before = digest(tmp_path, ROWS)
    corrected = [[row[0], "LY", *row[2:]] if 3 <= k < 8 else row for k, row in enumerate(ROWS)]
    assert digest(tmp_path, corrected) == before
    assert digest(tmp_path, changed(4, 3, "p99")) == before
    assert digest(tmp_path, [[*row, "note" if k == 0 else "x"] for k, row in enumerate(ROWS)]) == before
    assert digest(tmp_path, [row[:3] for row in ROWS]) == before, "nor does the column of patients, once it goes"


@pytest.mark.parametrize(
    "rows",
    [changed(5, 0, "other.png"), changed(5, 2, "test"), ROWS[:-1], [*ROWS, ["new.png", "SNE", "train", "p"]],
     [ROWS[0], *reversed(ROWS[1:])], [[row[0], row[1], row[3]] for row in ROWS]],
    ids=["path", "split", "a row less", "a row more", "order", "no split"],
)  # fmt: skip
def test_other_images_parts_and_orders_change_the_rows(tmp_path: Path, rows: list[list[str]]) -> None:
    assert digest(tmp_path, rows) != digest(tmp_path, ROWS)


def test_the_columns_are_those_of_the_settings(tmp_path: Path) -> None:
    assert digest(tmp_path, changed(5, 3, "x"), image="group") != digest(tmp_path, ROWS, image="group")
    assert digest(tmp_path, changed(5, 2, "test"), split=None) == digest(tmp_path, ROWS, split=None)


def test_the_rows_of_the_challenge_and_of_parquet_have_a_digest_too(tmp_path: Path) -> None:
    root = wbcbench(tmp_path / "w")
    before = rows_digest(str(root), Columns())
    path = root / "phase2_eval.csv"
    text = path.read_text()
    path.write_text(text.replace(",LY,", ",BA,"))
    assert text != path.read_text() and rows_digest(str(root), Columns()) == before
    path.write_text(text.replace("00000013", "10000013"))
    assert rows_digest(str(root), Columns()) != before
    frame = pd.DataFrame({"image": ["a.png", "b.png"], "label": ["SNE", None]})
    found = []
    for table in (frame, frame.assign(label="LY"), frame.assign(image=["a.png", "c.png"])):
        table.to_parquet(tmp_path / "cells.parquet")
        found.append(rows_digest(str(tmp_path / "cells.parquet"), Columns()))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_list_that_is_damaged_has_a_digest(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cells.{suffix}"
    found = []
    for content in (b"", b'image\n"a.png\n', b"PAR1\x00\xff", b"image,image\na,b\n"):
        path.write_bytes(content)
        found.append(rows_digest(str(path), Columns()))
    assert len(set(found)) == len(found)


def test_an_error_names_the_setting_of_the_column(tmp_path: Path) -> None:
    table = "image,diagnosis\na.png,SNE\nb.png,LY\n"
    picture(tmp_path / "a.png", 1)
    picture(tmp_path / "b.png", 2)
    with pytest.raises(InputError, match=r"no column 'label' .*perhaps index: {columns: {label: diagnosis}}"):
        index(tmp_path, table)
    assert len(index(tmp_path, table, label="diagnosis")[0]) == 2
    with pytest.raises(InputError, match=r"index\.columns\.group"):
        index(tmp_path, table, label="diagnosis", group="patient")
