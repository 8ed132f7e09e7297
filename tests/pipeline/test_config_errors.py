"""A wrong configuration stops the dry run with one clear line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from buffycoat.config import check_workflow
from buffycoat.core.errors import InputError
from tests.index.cases import picture
from tests.pipeline.workflow_run import REPOSITORY, Project, copy_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copy_project(tmp_path_factory.mktemp("config"))


WRONG = [
    ("crop: {crop_cells: {windw_px: 200}}", "crop.crop_cells.windw_px: unknown setting; did you mean 'window_px'?"),
    ("crop: {crop_cels: {window_px: 200}}", "crop.crop_cels: unknown setting; did you mean 'crop_cells'?"),
    ("crops: {}", "crops: unknown setting; did you mean 'crop'?"),
    ("crop: {crop_cells: {window_px: wide}}", "crop.crop_cells.window_px: input should be a valid integer"),
    ("seed: -1", "seed: input should be greater than or equal to 0, found -1"),
    ("data: nowhere.csv\npreset: laptop", "nowhere.csv: correct the path, or put the data there"),
    ("data: Snakefile", "a file whose name ends in 'nothing'; accepted are a table (.csv, .tsv, .xlsx or .parquet)"),
    ("data: nowhere.csv\npreset: demo", "`preset: demo` draws its own cells and would not use data: nowhere.csv"),
    ("preset: labtop", "preset: 'labtop' is none of demo, laptop, wbcbench, paper; did you mean 'laptop'?"),
    ("crop: {}", "config: no data: name your images (`data: cells.csv`), or set `preset: demo`"),
    (
        "crop: {train_segmenter: {masks: [mine.csv]}}",
        "mine.csv: correct the path, or put the data there",
    ),
    (
        "crop: {train_segmenter: {masks: [Snakefile]}, crop_cells: {method: stain}}",
        "config: crop: train_segmenter.masks are named, but crop_cells.method is stain, which learns nothing",
    ),
]
"""What a user writes, and the line that answers it."""


def written(file: Path, text: str) -> Path:
    file.write_text(text if "preset" in text or "data" in text or text == "crop: {}" else f"preset: demo\n{text}")
    return file


@pytest.mark.parametrize(("text", "expected"), WRONG)
def test_a_mistake_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str) -> None:
    monkeypatch.chdir(REPOSITORY)
    overlay = written(tmp_path / "overlay.yaml", text)
    with pytest.raises(InputError) as caught:
        check_workflow(yaml.safe_load(overlay.read_text()), [overlay], is_main_process=False)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "expected"), [WRONG[5], WRONG[-1]])
def test_snakemake_ends_with_that_line(project: Project, tmp_path: Path, text: str, expected: str) -> None:
    shown = project.snakemake("--dry-run", config=str(written(tmp_path / "overlay.yaml", text)))
    assert shown.returncode != 0
    everything = shown.stdout + shown.stderr
    assert any(expected in line for line in everything.splitlines()), everything
    assert "Traceback" not in everything


def test_a_wrong_key_is_named_with_file_and_line(project: Project, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("preset: demo\ncrop:\n  crop_cells:\n    windw_px: 200\n")
    shown = project.snakemake("--dry-run", config=str(overlay))
    everything = shown.stdout + shown.stderr
    assert f"did you mean 'window_px'? ({overlay}, line 4)" in everything and "Traceback" not in everything


def test_what_is_named_is_what_runs(project: Project, tmp_path: Path) -> None:
    """The template's demo mixes with no file, option or second file that names data or a preset."""
    for k in range(10):
        picture(tmp_path / f"{k}.png", k)
    lines = [f"{k}.png,{'SNE' if k % 2 else 'LY'}\n" for k in range(10)]
    (tmp_path / "cells.csv").write_text("image,label\n" + "".join(lines))
    named = f"data={tmp_path / 'cells.csv'}"
    (tmp_path / "my.yaml").write_text(f"data: {tmp_path / 'cells.csv'}\npreset: laptop\n")
    (tmp_path / "more.yaml").write_text("embed: {train_head: {epochs: 3}}\n")
    both = ("--configfile", str(tmp_path / "my.yaml"), str(tmp_path / "more.yaml"))
    for arguments in [("--config", named, "preset=laptop"), both[:2], both]:
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(project.folder / "src")}
        shown = subprocess.run(
            command, cwd=project.folder, env=environment, capture_output=True, text=True, check=False
        )
        everything = shown.stdout + shown.stderr
        assert shown.returncode == 0, everything
        assert "rule make_index" in everything and "draw_smears" not in everything
        assert everything.count(f"{tmp_path / 'cells.csv'}: a table of images") == 1


def test_nothing_named_is_the_demo_and_its_first_line_says_so(project: Project) -> None:
    environment = {**os.environ, "PYTHONPATH": str(project.folder / "src")}
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run"]
    shown = subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True, check=False)
    assert shown.returncode == 0 and "draw_smears" in shown.stdout
    first = shown.stdout.splitlines()
    assert "preset demo" in first[0] and first[1].startswith("data: drawn smears; the scores say that the chain works")
