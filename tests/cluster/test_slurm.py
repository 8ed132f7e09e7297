"""The workflow on a real Slurm, by the profile `slurm`: all of it, a training that is interrupted, a job that fails."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pandas as pd

from buffycoat.data.tables.index import IMAGES
from buffycoat.data.tables.report import PREDICTIONS
from tests.cluster.slurm import Slurm, ask
from tests.cluster.slurm_run import SlurmRun, environments_of
from tests.pipeline.workflow_run import Project

Finished = tuple[Project, SlurmRun]
FOLD = "results/5_classify/pix2pix/focal/fold_0"
TRAINING_LOG = "results/5_classify/logs/pix2pix/focal/train_fold_0.log"
WITH_GPU = {"train_segmenter", "crop_cells", "train_gan", "restore_cells", "train_fold", "predict_fold", "embed_cells"}


def jobs_of(slurm: Slurm, run: SlurmRun) -> dict[str, list[dict[str, str]]]:
    """Return what the controller noted of a run's jobs, by what they were submitted for."""
    names = run.submitted()
    jobs: dict[str, list[dict[str, str]]] = {name: [] for name in names.values()}
    for noted in slurm.ended():
        if noted["JobId"] in names:
            jobs[names[noted["JobId"]]].append(noted)
    return jobs


def test_the_whole_workflow_runs(finished: Finished) -> None:
    project, _ = finished
    results = project.folder / "results"
    images = IMAGES.read(results / "1_index" / "images.parquet")
    told = PREDICTIONS.read(results / "report" / "predictions.parquet")
    assert told["image_id"].tolist() == images["image_id"].tolist() and told["label"].notna().all()
    assert project.planned(targets=("all",)) == set(), "what Slurm made is not made again on one machine"


def test_each_job_had_the_gpus_that_its_rule_asks_for(finished: Finished, slurm: Slurm) -> None:
    names, gpus = finished[1].submitted(), slurm.gpus()
    assert {name.removeprefix("rule_") for job, name in names.items() if gpus[job]} == WITH_GPU
    assert all(len(gpus[job]) == 1 for job, name in names.items() if name.removeprefix("rule_") in WITH_GPU)
    (first, *_) = jobs_of(slurm, finished[1])["rule_train_fold"]
    assert "mem=32000M" in first["Tres"], "the memory that the profile asks for"


def test_folds_ran_side_by_side_and_small_steps_in_one_job(finished: Finished, slurm: Slurm) -> None:
    jobs = jobs_of(slurm, finished[1])
    first, second = jobs["rule_train_fold"]
    assert set(slurm.gpus()[first["JobId"]]).isdisjoint(slurm.gpus()[second["JobId"]])
    assert first["StartTime"] < second["EndTime"] and second["StartTime"] < first["EndTime"]
    groups = [name for name in jobs if name.startswith("group_")]
    assert sorted(name.split("_")[1] for name in groups) == ["index", "judge"]
    assert all(job["JobState"] == "COMPLETED" for noted in jobs.values() for job in noted)


def interrupt(slurm: Slurm, run: SlurmRun, log: Path, how: tuple[str, ...]) -> str:
    """Interrupt the training that runs, wait until its job is over, take its log away and return it."""
    job, before = list(run.submitted())[-1], len(slurm.ended())
    subprocess.run([*how, job], check=True, capture_output=True)
    run.until(lambda: len(slurm.ended()) > before)
    text = log.read_text()
    log.unlink()
    if how[-1] == "requeue":
        # Slurm lets a requeued job wait for two minutes; nobody else does here.
        run.until(lambda: ask("squeue", "--noheader", f"--jobs={job}", "--format=%T") == "PENDING")
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True)
    return text


def continued_at(log: Path) -> int | None:
    """Return the step at which the present attempt continued, once it has made an epoch since."""
    text = log.read_text() if log.exists() else ""
    found = re.search(r"continuing after step (\d+) of.*held-out macro-F1", text, re.S)
    return int(found.group(1)) if found else None


INTERRUPTIONS = {
    "preempted": ("scontrol", "requeue"),
    "warned of a time limit": ("scancel", "--signal=USR1"),
}
"""What happens to the training, one after the other: each command takes the number of its job."""


def test_an_interrupted_training_continues_and_ends_with_the_same_weights(
    finished: Finished, slurm: Slurm, tmp_path: Path
) -> None:
    project, _ = finished
    longer = tmp_path / "longer.yaml"
    longer.write_text("classify: {train_fold: {epochs: 16}}")
    log, model = project.folder / TRAINING_LOG, f"{FOLD}/model.safetensors"
    log.unlink(missing_ok=True)
    run = SlurmRun(project, targets=(model,), config=(str(longer),))
    try:
        run.until(lambda: log.exists() and "held-out macro-F1" in log.read_text())
        (environment,) = environments_of(next(iter(run.submitted())), "buffycoat.classify.train_fold --images")[:1]
        assert environment["CUDA_VISIBLE_DEVICES"] == "0"
        steps, logs = [], {}
        for name, how in INTERRUPTIONS.items():
            logs[name] = interrupt(slurm, run, log, how)
            steps.append(run.until(lambda: continued_at(log)))
        assert "interrupted by SIGUSR1" in logs["warned of a time limit"]
        assert steps == sorted(set(steps)) and steps[0] > 0
        assert run.wait() == 0, run.text()[-4000:]
    finally:
        run.stop()
    states = [job["JobState"] for job in jobs_of(slurm, run)["rule_train_fold"]]
    assert states == ["PENDING", "FAILED", "COMPLETED"]
    kept = (project.folder / FOLD).rename(tmp_path / "interrupted")
    shown = project.snakemake("--configfile", "tests/pipeline/tiny.yaml", str(longer), targets=(model,))
    assert shown.returncode == 0, shown.stderr[-3000:]
    straight = project.folder / FOLD
    assert (kept / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()
    ours, theirs = (
        pd.read_parquet(folder / "history.parquet").drop(columns="images_per_s") for folder in (kept, straight)
    )
    pd.testing.assert_frame_equal(ours, theirs)


def test_the_log_of_a_job_that_fails_is_shown(finished: Finished) -> None:
    project, _ = finished
    run = SlurmRun(
        project, "--retries", "0", "--config", 'index={"make_folds": {"folds": 500}}',
        targets=("results/1_index/folds.parquet",),
    )  # fmt: skip
    assert run.wait() == 1
    assert "make_folds: error: " in run.text(), run.text()[-3000:]
