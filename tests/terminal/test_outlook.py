"""What a run says of itself before it begins, and its scores at the end."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path

import pytest

from buffycoat.config import Config, check_run
from buffycoat.core.errors import InputError
from buffycoat.core.files import read_yaml
from buffycoat.terminal import outlook as module
from buffycoat.terminal.outlook import SHORT, Size, conclude, headline, introduce, job_seconds, outlook
from tests.conftest import REPOSITORY
from tests.index.cases import picture
from tests.test_layout import NAMES

PRESETS = REPOSITORY / "workflow" / "presets"


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path


def preset(name: str) -> Config:
    return Config.model_validate(read_yaml(PRESETS / f"{name}.yaml"))


def table(folder: Path) -> Path:
    lines = ["image,label,split,group"]
    for k in range(6):
        picture(folder / f"{k}.png", k)
        lines.append(f"{k}.png,{'SNE' if k % 2 else 'LY'},{'test' if k > 3 else 'train'},p{k // 2}")
    (folder / "cells.csv").write_text("\n".join(lines) + "\n")
    return folder / "cells.csv"


def test_the_first_lines_are_about_the_data_and_the_trainings(here: Path) -> None:
    lines, costs = outlook(check_run({"preset": "laptop", "data": str(table(here))}))
    text = "\n".join(lines)
    for part in ("preset laptop", "no GPU", "a table of images", "images: 6", "2 in training: LY 2, SNE 2",
                 "split: 4 training, 2 test", "patients: 2;", "5 folds of tf_efficientnet_lite0 (128 px, 12 epochs",
                 f"results: {here / 'results'}"):  # fmt: skip
        assert part in text, text
    assert "time:" not in text and costs["train_fold"]


def test_drawn_cells_are_told_before_they_exist() -> None:
    lines, _ = outlook(preset("demo").model_copy(update={"preset": "demo"}))
    assert lines[1].startswith("data: drawn smears; the scores say that the chain works and nothing about blood")
    assert "1600 of 13 classes and 60 patients" in lines[2] and "Pix2Pix (800 steps)" in "\n".join(lines)


def test_the_drawn_cells_are_said_to_be_drawn_with_any_preset() -> None:
    lines, _ = outlook(check_run({"preset": "laptop", "data": "results/0_simulate/smears"}))
    assert "preset laptop" in lines[0] and lines[1].startswith("data: drawn smears")


def test_faults_of_a_table_stop_before_anything_runs(here: Path) -> None:
    (here / "cells.csv").write_text("image;label\n1.png;SNE\n")
    with pytest.raises(InputError, match="cells.csv"):
        outlook(check_run({"preset": "laptop", "data": "cells.csv"}))


def test_every_rule_has_an_estimate_or_is_known_to_have_none() -> None:
    rules = {name.split(".")[1] for name in NAMES}
    assert set(job_seconds(preset("laptop"), Size(100, 80, 5), 1.0)) == rules


@pytest.mark.parametrize(
    ("name", "size", "rule", "low", "high"),
    [
        # Measured: laptop on 4,199 cells 2,607 s of classification, 126 s of cropping; demo 248 s, 53 s, GAN 81 s.
        ("laptop", Size(4199, 3079, 5), "train_fold", 250, 1000),
        ("laptop", Size(4199, 3079, 5), "crop_cells", 60, 250),
        ("demo", Size(1637, 1144, 5), "train_fold", 20, 100),
        ("demo", Size(1637, 1144, 5), "train_gan", 40, 160),
        # Swin-T at 224 px trains 3 images per second on two cores.
        ("wbcbench", Size(55012, 38000, 5), "train_fold", 1e5, 4e5),
    ],
)
def test_estimates_are_of_the_order_of_what_was_measured(
    name: str, size: Size, rule: str, low: float, high: float
) -> None:
    seconds = job_seconds(preset(name), size, 1.0)[rule]
    assert seconds is not None and low < seconds < high


def test_estimates_scale_with_the_machine_and_the_data() -> None:
    small, large = (job_seconds(preset("laptop"), Size(n, n, 5), 1.0) for n in (1000, 2000))
    slow = job_seconds(preset("laptop"), Size(1000, 1000, 5), 3.0)
    assert all(slow[rule] == pytest.approx(3 * small[rule]) for rule in SHORT)
    assert large["train_fold"] == pytest.approx(2 * small["train_fold"], rel=0.05)


def test_networks_without_figures_are_not_guessed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = check_run({"preset": "laptop", "data": str(table(here)),
                        "classify": {"train_fold": {"backbone": "resnet18", "weights": None}}})  # fmt: skip
    lines, costs = outlook(config)
    assert costs["train_fold"] is None and costs["crop_cells"]
    assert any(line.startswith("time: no figure for train_fold") for line in lines)
    monkeypatch.setattr(module, "find_gpu", lambda: "/dev/nvidia*")
    lines, costs = outlook(config)
    assert costs["crop_cells"] is None and any("no figure for this GPU" in line for line in lines)


def write_report(folder: Path) -> None:
    scores = {"macro_f1": 0.75, "low": 0.7, "high": 0.8, "images": 12}
    (folder / "results" / "report").mkdir(parents=True)
    (folder / "results" / "report" / "report.html").write_text("")
    content = {"headline": {"out_of_fold": {"before_refinement": scores, "after_refinement": scores}}}
    (folder / "results" / "report" / "summary.json").write_text(json.dumps(content))


def test_the_end_of_a_run_is_its_scores_and_where_the_report_is(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_report(here)
    with caplog.at_level(logging.INFO, "snakemake.logging"):
        conclude(time.time() - 60)
    assert caplog.messages[0].splitlines() == [
        "macro-F1, out of fold (12 images): 0.7500 [0.700, 0.800] before refinement, 0.7500 [0.700, 0.800] after",
        f"report: {here / 'results' / 'report' / 'report.html'}",
    ]


def test_a_bundle_says_what_to_type_next(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    (here / "results" / "bundle" / "bundle").mkdir(parents=True)
    (here / "results" / "bundle" / "bundle" / "bundle.json").write_text("{}")
    with caplog.at_level(logging.INFO, "snakemake.logging"):
        conclude(time.time() - 60)
    assert caplog.messages == [
        f"bundle: {here / 'results/bundle/bundle'}; next: buffycoat predict --bundle results/bundle/bundle IMAGES"
    ]


def test_scores_of_an_older_run_are_not_those_of_this_one(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_report(here)
    os.utime(here / "results" / "report" / "report.html", (1e9, 1e9))
    with caplog.at_level(logging.INFO, "snakemake.logging"):
        conclude(time.time() - 60)
    assert caplog.messages == []
    assert headline(here / "none.json", here / "none.html") == ""


def test_the_introduction_brings_what_jobs_may_cost(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = check_run({"preset": "laptop", "data": str(table(here))})
    with caplog.at_level(logging.INFO, "snakemake.logging"):
        began = introduce(config)
    assert abs(began - time.time()) < 60
    (record,) = caplog.records
    assert record.__dict__["costs"]["crop_cells"] > 0 and "images: 6" in record.getMessage()
