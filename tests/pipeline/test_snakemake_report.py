"""`snakemake --report` on the finished project: every page, table and figure, each with a caption."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from tests.pipeline.workflow_run import REPOSITORY, TARGETS, Project

SHOWN = {
    "report.html", "suspects.html", "suspects.csv", "submission.csv", "gan_samples.png", "provenance.json",
    "ablation.html", "ablation.csv", "robustness.html", "confusion_test.png", "learning_curves.png",
}  # fmt: skip


@pytest.fixture(scope="module")
def report(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    file = tmp_path_factory.mktemp("report") / "report.zip"
    shown = finished.snakemake("--report", str(file), targets=TARGETS)
    assert shown.returncode == 0, (shown.stdout + shown.stderr)[-3000:]
    return zipfile.ZipFile(file)


def test_pages_tables_and_figures_are_in_it(report: zipfile.ZipFile) -> None:
    assert {Path(name).name for name in report.namelist()} >= SHOWN


def test_categories_and_captions_are_in_it(report: zipfile.ZipFile) -> None:
    page = report.read("report/report.html").decode()
    for category in ("Pages", "Tables", "Figures", "Ablation", "Provenance"):
        assert f'"{category}"' in page, category
    assert "Begin with" in page and "each changed label as a card" in page


def test_every_output_that_is_shown_has_a_caption_and_every_caption_an_output() -> None:
    rules = "".join(file.read_text() for file in (REPOSITORY / "workflow" / "rules").glob("*.smk"))
    shown = {Path(path).stem for path in re.findall(r'shown\((?:directory\()?"([^"]+)"', rules)}
    captions = {file.stem for file in (REPOSITORY / "workflow" / "report").glob("*.rst")}
    assert captions == {*shown, "workflow"}


def test_the_catalog_s_way_in_runs_the_same_jobs(finished: Project) -> None:
    catalog = finished.snakemake("--snakefile", "workflow/Snakefile", "--dry-run", "--forceall")
    ours = finished.snakemake("--dry-run", "--forceall")
    count = [re.search(r"^total +(\d+)", text.stdout + text.stderr, re.M) for text in (catalog, ours)]
    assert all(count) and count[0].group(1) == count[1].group(1) != "1"
