from __future__ import annotations

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from buffycoat.core.files import read_json, write_json
from buffycoat.core.settings import Statistics
from buffycoat.data.images import BACKGROUND, CYTOPLASM, NUCLEUS, ShardWriter
from buffycoat.data.pages import outlined, sized, with_window
from buffycoat.data.tables.classify import PROBABILITIES, TRAINING_HISTORY
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, TEST_LABELS
from buffycoat.data.tables.partition import NOISE
from buffycoat.data.tables.refine import REFINED_LABELS
from buffycoat.data.tables.report import CONFUSION, METRICS, PREDICTIONS
from buffycoat.data.tables.restore import CELLS, REFUSED
from buffycoat.report.draw_figures import draw_figures
from buffycoat.report.score_labels import score_labels
from buffycoat.report.write_predictions import write_predictions
from buffycoat.report.write_report import write_report
from buffycoat.terminal.outlook import headline
from tests.index_tables import write_index

CODES = ["LY", "PC", "SNE"]
CONFIG = {
    "seed": 1, "evil": "</pre><script>", "root": "/home/somebody/smears",
    "classify": {"recipe": "ldam", "train_fold": {"choose": "best", "ema": 0.99}},
}  # fmt: skip
EVIL = '<script>alert("x")</script>.png'


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tables of a small run: 40 training, 12 test images, one of each missing; one file name is an attack."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    ids = [EVIL, *(f"={k}.png" if k == 5 else f"{k}.png" for k in range(1, 54))]
    role = ["train"] * 41 + ["test"] * 13
    status = ["ok"] * 40 + ["truncated"] + ["ok"] * 12 + ["missing"]
    labels = [CODES[k % 3] for k in range(54)]
    good = [k for k in range(54) if status[k] == "ok"]
    Image.new("RGB", (60, 60), (230, 220, 225)).save(folder / "cell.png")
    images = pd.DataFrame({"image_id": ids, "role": role, "status": status})
    images["label"] = [label if r == "train" else None for label, r in zip(labels, role, strict=True)]
    images["reason"] = ["" if s == "ok" else "a reason <b>" for s in status]
    images["group"] = [f"p{k // 4}" if r == "train" else None for k, r in enumerate(role)]
    write_index(images.assign(path=str(folder / "cell.png"), width=60, height=60), folder)
    answers = pd.DataFrame({"image_id": ids[41:], "label": labels[41:]})
    TEST_LABELS.write(answers, folder / "test_labels.parquet")
    classes = pd.DataFrame({"code": CODES, "name": ["lymphocyte", "plasma cell", "neutrophil"], "position": range(3)})
    CLASSES.write(classes.assign(images=[14, 13, 20], groups=None), folder / "classes.parquet")
    FOLDS.write(pd.DataFrame({"image_id": ids[:40], "fold": [k // 4 % 2 for k in range(40)]}), folder / "folds.parquet")
    ok_ids = [ids[k] for k in good]
    values = rng.dirichlet([1, 1, 1], 52)
    source = ["out_of_fold" if k < 40 else "fold_mean" for k in range(52)]
    for name in ("a", "b"):
        table = pd.DataFrame(values if name == "a" else values[:, ::-1], columns=CODES)
        table.insert(0, "image_id", ok_ids)
        table.insert(1, "source", source)
        PROBABILITIES.write(table, folder / f"{name}.parquet")
    base = np.array(CODES, object)[values.argmax(axis=1)]
    final = base.copy()
    changed = np.zeros(52, bool)
    for place in (3, 45):
        final[place], changed[place] = ("PC" if base[place] != "PC" else "LY"), True
    table = pd.DataFrame({"image_id": ok_ids, "base_label": base, "label": final, "changed": changed})
    table["reason"] = np.where(changed, "Relabelled <i>because</i>", "")
    for phase in ("suppressed_label", "phase_1", "phase_2"):
        table[phase] = base
    table["near_miss"] = pd.Series([None] * 51 + ["PC"], dtype=object)
    table["near_miss_reason"] = [""] * 51 + ["Nearly <i>PC"]
    table = table.assign(phase_3=final, suppressed_probability=0.5, trace="[]")
    REFINED_LABELS.write(table, folder / "refined_labels.parquet")
    rows = []
    with ShardWriter(folder / "shards", 32) as writer:
        for image_id in ok_ids:
            mask = np.full((32, 32), BACKGROUND, np.uint8)
            mask[8:24, 8:24], mask[12:20, 12:20] = CYTOPLASM, NUCLEUS
            shard, row, crc = writer.add(image_id, rng.integers(0, 256, (32, 32, 3), np.uint8), mask)
            rows.append({"image_id": image_id, "shard": f"shards/{shard}", "shard_row": row, "crc32": crc})
    crops = pd.DataFrame(rows).assign(
        row=30.0,
        col=30.0,
        window_px=40,
        found=True,
        masks=1,
        touches_border=False,
        area_px=9,
        nucleus_area_px=4,
        reason="",
    )
    CROPS.write(crops, folder / "crops.parquet")
    restored = [k % 10 == 0 for k in range(52)]
    cells = pd.DataFrame(rows).assign(
        restored=restored,
        noise_before=9.0,
        noise_after=[5.0 if k % 5 == 0 else np.nan for k in range(52)],
        nucleus_change=[0.01 * k if k % 5 == 0 else np.nan for k in range(52)],
        cell_change=[0.0 if k % 5 == 0 else np.nan for k in range(52)],
        reason=[
            "restored" if r else "refused: nucleus area <b>" if k % 5 == 0 else "clean" for k, r in enumerate(restored)
        ],
    )
    CELLS.write(cells, folder / "cells.parquet")
    refused = cells[cells["noise_after"].notna() & ~cells["restored"]]
    REFUSED.write(refused[["image_id", "shard", "shard_row", "crc32"]], folder / "refused.parquet")
    noise = pd.DataFrame({"image_id": ok_ids, "noisy": restored})
    noise = noise.assign(
        noise_score=3.0, surroundings_noise=1.0, blur_score=0.3, background_level=200.0, background_gradient=2.0,
        background_red=0.0, background_blue=0.0, light_deviation=0.5, blurred=False, badly_lit=False,
    )  # fmt: skip
    NOISE.write(noise, folder / "noise.parquet")
    history = pd.DataFrame({"fold": [0, 0], "epoch": [1, 2], "train_loss": [1.0, 0.5], "held_out_loss": [1.0, 0.7]})
    history = history.assign(held_out_macro_f1=[0.3, 0.5], images_per_s=10.0, kept=[False, True])
    TRAINING_HISTORY.write(history, folder / "history.parquet")
    write_json(
        {
            "method": "fitted",
            "measured_over": "field",
            "level": 9.0,
            "histogram": {"edges": [1, 5, 25], "counts": [40, 12]},
            "blur": {"level": 0.9, "histogram": {"edges": [0, 0.5, 1], "counts": [52, 0]}},
            "light": {"level": 3.5, "histogram": {"edges": [0, 1, 2], "counts": [50, 2]}},
        },  # fmt: skip
        folder / "t.json",
    )
    index = {
        "images": 54,
        "statuses": {"ok": 52, "truncated": 1, "missing": 1},
        "warnings": ["class X <u>"],
        "doubts": ["doubt <u>"],
    }
    index["patients_in_test"] = {"patients": 2, "training": 7, "test": 3, "examples": ["p1"], "dropped": False}
    pair = {
        "between": "training and test",
        "images": 3,
        "first": EVIL,
        "second": "45.png",
        "first_label": "LY",
        "second_label": None,
    }
    index["near_copies"] = {
        "sets": 1,
        "images": 3,
        "of_one_patient": 0,
        "between": {"training and test": 1},
        "pairs": [pair],
    }
    write_json(index, folder / "index.json")
    fold_rows = [{"fold": k, "images": 20, "groups": 5, "classes": dict.fromkeys(CODES, 6), "not_held_out": [],
                  "not_learned": []} for k in range(2)]  # fmt: skip
    receipt = {"method": "StratifiedGroupKFold", "seed": 1, "images": 40, "groups": 10, "groups_in_two_folds": 0,
               "note": "", "folds": fold_rows}  # fmt: skip
    write_json(receipt, folder / "receipt.json")
    write_json({"rules": []}, folder / "rules.json")
    honesty = {"expected_calibration_error": 0.1234, "negative_log_likelihood": 0.9, "bins": [[0.5, 0.6, 40.0]]}
    of_fold = {"temperature": 1.625, "fitted_on": 20, "images": 20}
    write_json(
        {"fitted": True, "temperature": 1.75, "by_fold": {"0": of_fold, "1": of_fold}, "images": 40, "views": 8,
         "binning": "15 bins <b>", "before": honesty, "after": {**honesty, "expected_calibration_error": 0.0567}},
        folder / "calibration.json",
    )  # fmt: skip
    _run(folder)
    return folder


def _run(folder: Path) -> None:
    table = {name: folder / f"{name}.parquet" for name in
             ("images", "labels", "test_labels", "classes", "folds", "crops", "cells", "refused", "noise",
              "refined_labels")}  # fmt: skip
    branches = {"probabilities": folder / "a.parquet", "head_probabilities": folder / "b.parquet"}

    def pick(*names: str) -> dict[str, Path]:
        return {name: table[name] for name in names}

    score_labels(
        **pick("images", "labels", "test_labels", "classes", "folds", "refined_labels"), **branches,
        metrics=folder / "m.parquet", confusions=folder / "c.parquet", summary=folder / "s.json", seed=1,
        statistics=Statistics(resamples=200),
    )  # fmt: skip
    write_predictions(
        **pick("images", "labels", "classes", "crops", "noise", "cells", "refined_labels"),
        probabilities=folder / "a.parquet", predictions=folder / "p.parquet",
        submission=folder / "submission.csv",
    )  # fmt: skip
    draw_figures(
        **pick("images", "labels", "classes", "test_labels"), threshold=folder / "t.json",
        histories=[folder / "history.parquet"],
        confusions=folder / "c.parquet", summary=folder / "s.json", calibration=folder / "calibration.json",
        figures=folder / "figures",
    )  # fmt: skip
    write_report(
        **pick("images", "labels", "test_labels", "classes", "crops", "cells", "refused", "refined_labels"), **branches,
        index_summary=folder / "index.json", receipt=folder / "receipt.json", rules=folder / "rules.json",
        metrics=folder / "m.parquet", summary=folder / "s.json", predictions=folder / "p.parquet",
        calibration=folder / "calibration.json", figures=folder / "figures", config=json.dumps(CONFIG),
        report=folder / "report.html",
    )  # fmt: skip


def test_every_image_has_exactly_one_prediction(finished: Path) -> None:
    images, table = IMAGES.read(finished / "images.parquet"), PREDICTIONS.read(finished / "p.parquet")
    assert table["image_id"].tolist() == images["image_id"].tolist()
    bad = table[table["status"] != "ok"]
    assert len(bad) == 2 and bad["label"].isna().all() and (bad["reason"] != "").all()
    assert table.loc[table["status"] == "ok", "label"].notna().all()
    assert table["changed"].sum() == 2
    assert table.loc[table["changed"].fillna(False).astype(bool), "reason"].str.contains("Relabelled").all()
    probabilities = PROBABILITIES.read(finished / "a.parquet").set_index("image_id")
    row = table.iloc[10]
    assert row["probability"] == pytest.approx(probabilities.loc[row["image_id"], row["label"]])


def test_the_submission_has_every_test_image_in_order(finished: Path) -> None:
    with (finished / "submission.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["ID", "labels"]
    assert [row[0] for row in rows[1:]] == [f"{k}.png" for k in range(41, 54)]
    assert all(row[1] in CODES for row in rows[1:])
    assert rows[-1][1] == "SNE", "a file without pixels gets the commonest class"


def test_scores_of_every_phase_and_part_with_intervals(finished: Path) -> None:
    metrics = METRICS.read(finished / "m.parquet")
    assert set(metrics["part"]) == {"out_of_fold", "test", "fold_0", "fold_1"}
    pooled = metrics[metrics["part"].isin(["out_of_fold", "test"])]
    assert pooled[["low", "high"]].notna().all(axis=None)
    overall = pooled[pooled["class"] == "all"]
    assert ((overall["low"] <= overall["value"] + 1e-9) & (overall["value"] <= overall["high"] + 1e-9)).mean() > 0.95
    summary = read_json(finished / "s.json")
    assert summary["clusters"] == {"out_of_fold": "patients", "test": "images"}
    assert summary["gains"]["out_of_fold"]["phase_1 - suppressed"] == {"macro_f1": 0, "low": 0, "high": 0}
    head = summary["headline"]["test"]
    assert head["before_refinement"]["images"] == 12
    rows = metrics[(metrics["phase"] == "branch_a") & (metrics["part"] == "test") & (metrics["metric"] == "macro_f1")]
    assert rows["value"].item() == head["before_refinement"]["macro_f1"]
    assert summary["test_labels_without_pixels"] == 1, "the missing file has an answer, but no score"
    of_folds = metrics[metrics["part"].str.startswith("fold_") & (metrics["phase"] == "phase_3")]
    values = of_folds.loc[of_folds["metric"] == "accuracy", "value"]
    told = summary["folds"]["after_refinement"]["accuracy"]
    assert told == {"mean": pytest.approx(values.mean()), "sd": pytest.approx(values.std(ddof=1)), "folds": 2}
    confusion = CONFUSION.read(finished / "c.parquet")
    assert confusion[confusion["part"] == "test"].groupby("phase")["images"].sum().tolist() == [12] * 6


class Resources(HTMLParser):
    """Collects what a page would fetch, and every script."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            if name in ("src", "srcset", "href") and tag != "a":
                self.fetched.append(str(value))


def test_the_page_needs_no_network_and_runs_nothing(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    parsed = Resources()
    parsed.feed(page)
    assert parsed.scripts == 0, "file names, labels and settings are escaped"
    assert len(parsed.fetched) > 20 and all(address.startswith("data:image/") for address in parsed.fetched)
    assert "@import" not in page and not re.search(r"url\(", page)


def test_the_page_shows_what_matters(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    summary = read_json(finished / "s.json")
    after = summary["headline"]["test"]["after_refinement"]["macro_f1"]
    told = ["54 → 54", "research use only", "truncated", "<b>0 groups in two folds</b>", "seed"]
    escaped = ["Relabelled &lt;i&gt;because", "Nearly &lt;i&gt;PC", "class X &lt;u&gt;", "&lt;script&gt;alert"]
    for text in (f"{after:.3f}", *told, *escaped):
        assert text in page, text
    assert page.count('class="card"') == 3
    assert "in no score" in page and "patients of test images are not all known" in page
    assert "/home/somebody" not in page and ".../smears" in page and str(finished) not in page
    assert len(page) < 8e6


def test_the_page_tells_how_an_epoch_was_kept_and_how_honest_probabilities_are(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    for text in ("larger margins for rare classes", "best macro-F1 on the held-out fold", "EMA, decay 0.99",
                 "Temperature 1.750", "1.625 (fold 0), 1.625 (fold 1)", "0.1234", "0.0567", "15 bins &lt;b&gt;",
                 "out-of-fold scores of branch A are optimistic"):  # fmt: skip
        assert text in page, text


def test_the_last_lines_of_the_demo(finished: Path) -> None:
    shown = headline(finished / "s.json", finished / "report.html")
    assert headline(finished / "none.json", finished / "report.html") == ""
    assert str(finished / "report.html") in shown
    assert re.search(r"macro-F1, test \(12 images\): 0\.\d{4} \[.*\] before refinement, 0\.\d{4} \[.*\] after", shown)


def test_pictures_keep_their_size_and_mark_the_cell() -> None:
    crop = np.full((40, 40, 3), 200, np.uint8)
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = CYTOPLASM
    picture = outlined(crop, mask, 80)
    assert picture.shape == (80, 80, 3) and (picture != 200).any()
    assert (picture[:10] == 200).all()
    assert np.array_equal(outlined(crop, np.zeros_like(mask), 40), sized(crop, 40))
    assert with_window(crop, 20, 20, 10, 80).shape == (80, 80, 3)


def test_the_page_shows_the_worst_restorations_that_were_kept_and_refused(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "Of 11 noisy crops 6 were restored; for 5 the original was kept" in page
    kept, refused = page.index("The worst that were kept"), page.index("The worst that were refused")
    assert kept < refused and "First reasons: nucleus area 5." in page
    assert "refused: nucleus area &lt;b&gt;" in page[refused:] and "refused: nucleus" not in page[kept:refused]


def test_the_page_begins_with_what_was_understood(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    first = page[page.index('id="understood"') : page.index('id="scores"')]
    for text in ("Doubt &lt;u&gt;.", "images listed: 54", "not readable, no prediction: 2", "1  truncated",
                 "1  missing", "learned from, and scored out of fold: 40", "scored as test images: 12",
                 "<b>LY</b><br>lymphocyte", "cells found in 52 of 52 images", "45.png",
                 "between training and test (3 images)"):  # fmt: skip
        assert text in first, text
    assert first.count("<polygon") == 7 and first.count('width="84"') == 3 * 8, "eight cells of each class"
    scores = page[page.index('id="scores"') : page.index('id="data"')]
    assert "Test scores are too good: 2 patients have both training and test images (7 and 3)" in scores
    assert "1 set of near copies has training and test images" in scores


def test_severities_pairs_and_boxes_left_out_are_told(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    images = IMAGES.read(folder / "images.parquet")
    cropped = CROPS.read(folder / "crops.parquet")["image_id"].tolist()
    clean = dict(zip(cropped[26:], cropped[:26], strict=True))
    severity = ["<mild>" if image_id in clean else "none" for image_id in images["image_id"]]
    IMAGES.write(
        images.assign(severity=severity, original=images["image_id"].map(clean)), folder / "images.parquet"
    )  # fmt: skip
    index = read_json(folder / "index.json")
    write_json({**index, "left_out": {"RBC": 41, "<Platelets>": 3}}, folder / "index.json")
    _run(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "By severity, out of fold" in page and "Against the clean forms" in page
    assert "&lt;mild&gt;</td><td>26</td><td>26</td>" in page, "pairs of that severity, and how many were compared"
    assert "left out by name: RBC 41, &lt;Platelets&gt; 3" in page
    assert "By severity" not in (finished / "report.html").read_text(encoding="utf-8")
