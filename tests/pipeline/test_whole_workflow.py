"""What the whole workflow leaves behind, and the promises that hold across stages."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from buffycoat.core.files import read_json, sha256_of
from buffycoat.data.labels import labelled
from buffycoat.data.tables.classify import PROBABILITIES
from buffycoat.data.tables.index import FOLDS, IMAGES, LABELS, decodable
from buffycoat.data.tables.partition import NOISE
from buffycoat.data.tables.refine import REFINED_LABELS
from buffycoat.data.tables.report import ABLATION, METRICS, PREDICTIONS, ROBUSTNESS
from tests.pipeline.workflow_run import GROUPS, TINY, Project
from tests.test_layout import STEPS


def results(project: Project) -> Path:
    return project.folder / "results"


def indexed(project: Project) -> pd.DataFrame:
    """Return the images with their labels."""
    folder = results(project) / "1_index"
    return labelled(IMAGES.read(folder / "images.parquet"), LABELS.read(folder / "labels.parquet"))


def learned(project: Project) -> set[str]:
    """Return the images that may be learned from."""
    images = indexed(project)
    return set(images.loc[(images["role"] == "train") & (images["label_status"] == "ok"), "image_id"])


def test_what_is_no_part_of_all_is_made_only_when_asked_for(finished: Project, users: dict[str, set[str]]) -> None:
    """The ablation trains every recipe."""
    jobs = finished.planned_jobs("--forceall", targets=("all",))
    only_when_asked = {"predict_degraded", "score_robustness", "compare_recipes", "try_alternatives", "pack_bundle"}
    rules = {name.partition(" ")[0] for name in users} - GROUPS
    assert rules - set(jobs) == only_when_asked
    assert jobs["train_fold"] == jobs["predict_fold"] == 2, "two folds of one recipe"


def test_every_image_has_one_prediction(finished: Project) -> None:
    images = IMAGES.read(results(finished) / "1_index" / "images.parquet")
    table = PREDICTIONS.read(results(finished) / "report" / "predictions.parquet")
    assert table["image_id"].tolist() == images["image_id"].tolist()
    assert table["label"].notna().all()


def test_the_submission_is_in_the_order_of_the_test_list(finished: Project) -> None:
    with (results(finished) / "0_simulate" / "smears" / "phase2_test.csv").open() as stream:
        wanted = [row["ID"] for row in csv.DictReader(stream)]
    with (results(finished) / "report" / "submission.csv").open() as stream:
        given = list(csv.DictReader(stream))
    assert [row["ID"] for row in given] == wanted and all(row["labels"] for row in given)


def test_no_test_label_is_in_the_tables_that_are_learned_from(finished: Project) -> None:
    images = indexed(finished)
    assert images.loc[images["role"] == "test", ["label", "group"]].isna().all(axis=None)


def test_no_true_patient_is_divided_more_than_the_recovered_groups_divide_it(finished: Project) -> None:
    receipt = read_json(results(finished) / "1_index" / "folds_report.json")
    assert receipt["groups_in_two_folds"] == 0 and receipt["groups"] >= 6
    truth = pd.read_csv(results(finished) / "0_simulate" / "smears" / "truth" / "cells.csv", dtype=str).set_index("ID")
    folds = pd.read_parquet(results(finished) / "1_index" / "folds.parquet")
    of_patient = folds.groupby(folds["image_id"].map(truth["patient"]))["fold"].nunique()
    assert (of_patient == 1).mean() > 0.6


def test_probabilities_are_out_of_fold_for_training_images(finished: Project) -> None:
    images = IMAGES.read(results(finished) / "1_index" / "images.parquet")
    for path in ("5_classify/pix2pix/focal/probabilities.parquet", "6_embed/probabilities.parquet"):
        table = PROBABILITIES.read(results(finished) / path)
        assert set(table["image_id"]) == set(decodable(images)["image_id"])
        own = table.loc[table["source"] == "out_of_fold", "image_id"]
        assert set(own) == learned(finished)


def test_labels_follow_the_phases(finished: Project) -> None:
    labels = REFINED_LABELS.read(results(finished) / "8_refine" / "refined_labels.parquet")
    assert (labels["label"] == labels["phase_3"]).all()
    assert ((labels["label"] != labels["base_label"]) == labels["changed"]).all()
    assert (labels.loc[labels["changed"], "reason"] != "").all()


def test_a_command_from_a_log_reproduces_the_step(finished: Project, tmp_path: Path) -> None:
    made = results(finished) / "1_index"
    command = [
        sys.executable, "-m", "buffycoat.index.make_folds", "--images", str(made / "images.parquet"), "--labels",
        str(made / "labels.parquet"), "--classes", str(made / "classes.parquet"),
        "--folds", str(tmp_path / "folds.parquet"), "--receipt", str(tmp_path / "receipt.json"),
        "--seed", "1", "--settings", '{"folds": 2}',
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "folds.parquet").read_bytes() == (made / "folds.parquet").read_bytes()


def test_every_step_left_a_log_and_a_benchmark(finished: Project) -> None:
    logs = {path.stem for path in results(finished).rglob("logs/**/*.log")}
    benchmarks = {path.stem for path in results(finished).rglob("benchmarks/**/*.tsv")}
    assert logs == benchmarks and len(logs) >= 21
    for name in ("crop_cells", "make_index", "train_fold_0", "predict_fold_1", "embed_cells"):
        logs_of_step = list(results(finished).rglob(f"logs/**/{name}*.log"))
        assert logs_of_step and all("images" in log.read_text() for log in logs_of_step)


def test_calibration_is_stored_beside_the_probabilities(finished: Project) -> None:
    for recipe in ("focal", "cross_entropy"):
        found = read_json(results(finished) / "5_classify" / "pix2pix" / recipe / "calibration.json")
        assert found["images"] == len(learned(finished)) and set(found["by_fold"]) == {"0", "1"}
        assert found["fitted"] and found["views"] == 8


def test_the_ablation_has_a_line_per_recipe_and_agrees_with_the_report(finished: Project) -> None:
    table = ABLATION.read(results(finished) / "report" / "ablation.parquet")
    overall = table[(table["class"] == "all") & (table["metric"] == "macro_f1")]
    lines = overall[overall["part"] == "test"][["recipe", "variant"]].to_numpy().tolist()
    of_main = [["focal", "single_folds"], ["focal", "one_view"], ["focal", "all_views"]]
    after = ["phase_1", "phase_2", "rules", "branch_b", "average", "prior_correction", "count_matching", "stacking"]
    recipes = [*of_main, ["cross_entropy", "all_views"]]
    assert lines == [*recipes, ["median", "restored"], *([name, "after"] for name in after)]
    metrics = METRICS.read(results(finished) / "report" / "metrics.parquet")
    told = metrics[(metrics["phase"] == "branch_a") & (metrics["class"] == "all") & (metrics["metric"] == "macro_f1")]
    main = overall[(overall["recipe"] == "focal") & (overall["variant"] == "all_views")]
    for part in ("out_of_fold", "test"):
        ours, theirs = (frame.loc[frame["part"] == part, ["value", "low", "high"]] for frame in (main, told))
        assert np.array_equal(ours, theirs), "the same images, resamples and scores"
    final = metrics[(metrics["phase"] == "phase_3") & (metrics["class"] == "all") & (metrics["metric"] == "macro_f1")]
    rules = overall[overall["recipe"] == "rules"].set_index("part")["value"]
    told_after = final.set_index("part")["value"]
    assert [rules[part] for part in rules.index] == [told_after[part] for part in rules.index]
    page = (results(finished) / "report" / "ablation.html").read_text()
    assert "cross_entropy" in page and "<script" not in page


def test_the_ablation_tells_how_robust_branch_a_is(finished: Project) -> None:
    table = ROBUSTNESS.read(results(finished) / "report" / "robustness.parquet")
    assert len(table) == 3 * (1 + 4 * 2), "three scores of crops as they are and of four kinds at two severities"
    clean = NOISE.read(results(finished) / "3_partition" / "noise.parquet").set_index("image_id")["noisy"]
    folds = FOLDS.read(results(finished) / "1_index" / "folds.parquet")["image_id"]
    assert (table["images"] == (~clean.loc[folds]).sum()).all()


def test_the_ablation_trains_every_recipe_that_is_asked_for_once(finished: Project, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("report: {compare_recipes: {recipes: [cross_entropy, crt, logit_adjustment, ldam]}}")
    jobs = finished.planned_jobs("--configfile", TINY, str(overlay), targets=("ablation",))
    assert jobs == {"train_fold": 6, "predict_fold": 6, "combine_folds": 3, "compare_recipes": 1}


def test_the_run_tells_what_it_was_made_with(finished: Project) -> None:
    made = results(finished) / "report"
    told = read_json(made / "provenance.json")
    assert told["results"]["results/report/predictions.parquet"] == sha256_of(made / "predictions.parquet")
    assert told["inputs"]["images"] == len(IMAGES.read(results(finished) / "1_index" / "images.parquet"))
    assert "results/0_simulate/smears/phase2_test.csv" in told["inputs"]["sources"]
    assert told["settings"]["simulate"]["draw_smears"]["images"] == 130
    assert set(told["code"]) == set(STEPS) and len(set(told["code"].values())) > 20
