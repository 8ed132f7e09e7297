"""A wrong configuration stops the dry run with one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.workflow_run import Project, copy_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copy_project(tmp_path_factory.mktemp("config"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("crop: {crop_cells: {windw_px: 200}}", "crop.crop_cells.windw_px: unknown setting; did you mean 'window_px'?"),
        ("crop: {crop_cels: {window_px: 200}}", "crop.crop_cels: unknown setting; did you mean 'crop_cells'?"),
        ("crops: {}", "crops: unknown setting; did you mean 'crop'?"),
        ("crop: {crop_cells: {window_px: wide}}", "crop.crop_cells.window_px: input should be a valid integer"),
        ("seed: -1", "seed: input should be greater than or equal to 0, found -1"),
        (
            "index: {make_index: {source: table, table: nowhere.csv}}",
            "config: index.make_index: no such file: nowhere.csv",
        ),
        (
            "crop: {train_segmenter: {masks: [mine.csv]}}",
            "config: crop.train_segmenter.masks: no such file: mine.csv",
        ),
        (
            "crop: {train_segmenter: {masks: [Snakefile]}, crop_cells: {method: stain}}",
            "crop: value error, train_segmenter.masks are named, but crop_cells.method is stain, which learns nothing",
        ),
    ],
)
def test_one_clear_line(project: Project, tmp_path: Path, text: str, expected: str) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(text)
    shown = project.snakemake("--dry-run", config=str(overlay))
    assert shown.returncode != 0
    everything = shown.stdout + shown.stderr
    assert any(expected in line for line in everything.splitlines()), everything
    assert "Traceback" not in everything
