"""What makes a step run again: a changed setting, a changed line of code, a changed input; nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from buffycoat.core.provenance import import_closure
from tests.pipeline.workflow_run import TARGETS, TINY, Project, downstream

CHANGED_SETTINGS: dict[str, dict[str, object]] = {
    "simulate.draw_smears": {"images": 131},
    "index.make_index": {"max_megabytes": 199.0},
    "index.make_labels": {"label_aliases": {"other": "SNE"}},
    "index.make_folds": {"folds": 3},
    "crop.train_segmenter": {"steps": 3},
    "crop.crop_cells": {"window_px": 225},
    "partition.flag_noisy": {"spread": 3.0},
    "restore.train_gan": {"batch": 3},
    "restore.restore_cells": {"guard": False},
    "classify.train_fold": {"epochs": 3},
    "classify.predict_fold": {"views": 7},
    "classify.combine_folds": {"temperature": "none"},
    "classify.predict_degraded": {"severities": [1.0]},
    "embed.embed_cells": {"batch": 32},
    "embed.train_head": {"epochs": 3},
    "embed.score_baselines": {"neighbours": 3},
    "measure.measure_cells": {"min_area_px": 51.0},
    "refine.fit_rules": {"min_cells": 9},
    "refine.refine_labels": {"mode": "off"},
    "refine.try_alternatives": {"ways": ["stacking"]},
    "review.find_suspects": {"components": 8},
    "report.score_labels": {"resamples": 150},
    "report.draw_figures": {"dpi": 61},
    "report.write_report": {"gallery": 3},
    "report.compare_recipes": {"confidence": 0.9},
    "report.score_robustness": {"confidence": 0.9},
    "review.write_suspects": {"most": 3},
    "bundle.pack_bundle": {"name": "other"},
}
"""Another value of one setting of each rule."""
WITHOUT_SETTINGS = ("partition.measure_noise", "report.write_predictions", "report.write_provenance")
OTHERWISE = {
    "restore_cells": "restore_otherwise",
    "train_fold": "train_fold_otherwise",
    "predict_fold": "predict_fold_otherwise",
    "combine_folds": "combine_folds_otherwise",
}
"""Rules that the ablation uses again, with the same code and settings, under another name."""
DIVIDED = ("crop_cells", "measure_noise", "embed_cells", "measure_cells")
"""Rules that `portions` divides; the jobs of their portions have the same code and settings."""


def with_twin(rule: str) -> set[str]:
    """Return a rule and its twin in the ablation, where it has one."""
    return {rule, OTHERWISE[rule]} if rule in OTHERWISE else {rule}


@pytest.fixture(scope="session")
def users(finished: Project) -> dict[str, set[str]]:
    edges = finished.edges()
    # Its pairs need to know what may be learned from, but it is not trained again for labels alone.
    edges["make_labels"] -= {"train_gan"}
    return edges


@contextmanager
def edited(file: Path, text: str) -> Iterator[None]:
    """Replace the file's text for the length of the block."""
    before = file.read_text()
    file.write_text(text)
    try:
        yield
    finally:
        file.write_text(before)


@contextmanager
def moved_away(file: Path) -> Iterator[None]:
    """Take the file out of the results for the length of the block."""
    kept = file.with_suffix(".kept")
    file.rename(kept)
    try:
        yield
    finally:
        kept.rename(file)


def test_a_second_run_does_nothing(finished: Project) -> None:
    assert finished.planned() == set()
    shown = finished.snakemake(targets=TARGETS)
    assert shown.returncode == 0 and "Nothing to be done" in shown.stdout + shown.stderr


@pytest.mark.parametrize("key", sorted(CHANGED_SETTINGS))
def test_a_changed_setting_reruns_its_rule_and_what_depends_on_it(
    finished: Project, users: dict[str, set[str]], key: str, tmp_path: Path
) -> None:
    stage, rule = key.split(".")
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({stage: {rule: CHANGED_SETTINGS[key]}}))
    # The report shows the configuration and the bundle holds it, the provenance tells it: any setting reaches them.
    shown = {"write_report", "pack_bundle", "write_provenance"}
    assert finished.planned("--configfile", TINY, str(overlay)) == downstream(users, with_twin(rule) | shown)


@pytest.mark.parametrize("key", sorted([*CHANGED_SETTINGS, *WITHOUT_SETTINGS]))
def test_a_changed_line_of_code_reruns_its_rule_and_what_depends_on_it(
    finished: Project, users: dict[str, set[str]], key: str
) -> None:
    stage, rule = key.split(".")
    module = finished.folder / "src" / "buffycoat" / stage / f"{rule}.py"
    with edited(module, module.read_text() + "\nADDED = 1\n"):
        # The provenance tells the digest of every step's code.
        assert finished.planned() == downstream(users, {*with_twin(rule), "write_provenance"})


def test_portions_divide_their_rules_and_no_other(
    finished: Project, users: dict[str, set[str]], tmp_path: Path
) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("portions: 3")
    jobs = finished.planned_jobs("--configfile", TINY, str(overlay))
    assert {rule: count for rule, count in jobs.items() if rule.endswith("_portion")} == {
        f"{rule}_portion": 3 for rule in DIVIDED
    }
    gathered = {rule for rule in jobs if not rule.endswith("_portion")}
    assert gathered == downstream(users, {*DIVIDED, "write_report"})
    assert not any(rule.endswith("_portion") for rule in users), "one portion is no portion"


def test_corrected_labels_crop_restore_embed_and_measure_nothing_again(users: dict[str, set[str]]) -> None:
    blind = {"crop_cells", "measure_noise", "flag_noisy", "train_gan", "restore_cells", "embed_cells",
             "measure_cells", "gather_portions", "train_segmenter"}  # fmt: skip
    assert blind <= set(users) and not blind & downstream(users, {"make_labels"})


def test_every_rule_is_in_the_matrix(users: dict[str, set[str]]) -> None:
    assert {key.split(".")[1] for key in [*CHANGED_SETTINGS, *WITHOUT_SETTINGS]} == set(users) - set(TARGETS) - set(
        OTHERWISE.values()
    )


def test_comments_formatting_and_docstrings_rerun_nothing(finished: Project) -> None:
    files = sorted((finished.folder / "src" / "buffycoat").rglob("*.py"))
    before = {file: file.read_text() for file in files}
    try:
        for file, text in before.items():
            file.write_text(text + "\n\n# a comment\n\n\n")
        assert finished.planned() == set()
    finally:
        for file, text in before.items():
            file.write_text(text)


def test_time_stamps_of_code_and_sources_rerun_nothing(finished: Project) -> None:
    for file in [
        *(finished.folder / "src").rglob("*.py"),
        *(finished.folder / "workflow").rglob("*"),
        finished.folder / "config.yaml",
    ]:
        os.utime(file)
    assert finished.planned() == set()


def test_moving_the_project_reruns_nothing(finished: Project) -> None:
    elsewhere = finished.folder.with_name("moved")
    shutil.move(finished.folder, elsewhere)
    try:
        assert Project(elsewhere).planned() == set()
    finally:
        shutil.move(elsewhere, finished.folder)


def test_a_deleted_product_is_made_again(finished: Project) -> None:
    with moved_away(finished.folder / "results" / "report" / "submission.csv"):
        assert "write_predictions" in finished.planned() <= {"write_predictions", "write_report", "write_provenance"}


def test_a_deleted_intermediate_is_made_again_when_something_needs_it(
    finished: Project, users: dict[str, set[str]], tmp_path: Path
) -> None:
    with moved_away(finished.folder / "results" / "1_index" / "folds.parquet"):
        assert finished.planned() == set(), "the report stands: nothing needs the table"
        assert finished.planned(targets=("results/1_index/folds.parquet",)) == {"make_folds"}
        overlay = tmp_path / "overlay.yaml"
        overlay.write_text(yaml.safe_dump({"embed": {"train_head": {"epochs": 3}}}))
        planned = finished.planned("--configfile", TINY, str(overlay))
        assert {"make_folds", "train_head", "write_report"} <= planned <= downstream(users, {"make_folds"})


def test_a_changed_shared_module_reruns_only_its_importers(finished: Project) -> None:
    module = finished.folder / "src" / "buffycoat" / "training.py"
    with edited(module, module.read_text() + "\nADDED = 1\n"):
        planned = finished.planned()
    # A segmenter is trained here, so that all that sees its crops follows; cropping itself trains nothing.
    assert {"train_fold", "train_gan", "train_segmenter"} <= planned
    assert not planned & {"draw_smears", "make_index", "make_folds"}
    for step in ("crop.crop_cells", "partition.measure_noise", "partition.flag_noisy"):
        assert "buffycoat.nets.training" not in import_closure(f"buffycoat.{step}")
