"""Runs that are killed, run twice, or started while the clock is wrong."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.steps_run import picture
from tests.pipeline.workflow_run import TARGETS, TINY, Finished, Project, contents_of, copy_of, copy_project

LONGEST_S = 3.0
"""A run is killed at most so long after the number of finished jobs that its seed has drawn."""


@contextmanager
def started(project: Project, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start Snakemake in a process group of its own; the whole group is dead when the block ends."""
    environment = {**os.environ, "PYTHONPATH": str(project.folder / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--configfile", TINY]
    run = subprocess.Popen(
        command, cwd=project.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield run
    finally:
        # Also where Snakemake itself has ended: a job of its may be left.
        try:
            os.killpg(run.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        run.wait()


def jobs_done(project: Project) -> int:
    """Return how many jobs have ended well: Snakemake writes a benchmark for each."""
    return sum(1 for _ in (project.folder / "results").glob("*/benchmarks/**/*.tsv"))


def wait_for(reached: object, run: subprocess.Popen[bytes], limit_s: float = 180.0) -> bool:
    """Wait until `reached()`; return whether the run is still going then."""
    until = time.monotonic() + limit_s
    while not reached() and run.poll() is None:  # type: ignore[operator]
        assert time.monotonic() < until, "nothing happens any more"
        time.sleep(0.05)
    return run.poll() is None


def unlock(project: Project, by_hand: bool) -> None:
    """Do what `snakemake --unlock` does: by it, or, as its start takes seconds, without it."""
    if by_hand:
        shown = project.snakemake("--unlock")
        assert shown.returncode == 0, shown.stderr[-2000:]
    else:
        shutil.rmtree(project.folder / ".snakemake" / "locks", ignore_errors=True)


def killed_again_and_again(project: Project, targets: tuple[str, ...], kills: int, among: int) -> int:
    """Run, kill and unlock at seeded instants, spread over the first jobs; return how often a run was killed.

    All in one chain: each run goes on where the last one was killed.
    """
    chance = random.Random(20)
    jobs = sorted(chance.sample(range(among), kills))
    killed = 0
    for number, wanted in enumerate(jobs):
        with started(project, *targets, "--rerun-incomplete") as run:
            if not wait_for(lambda wanted=wanted: jobs_done(project) >= wanted, run):  # type: ignore[misc]
                assert run.returncode == 0, "a run ended by itself, and not well"
                return killed
            time.sleep(chance.uniform(0, LONGEST_S))
        killed += run.returncode == -signal.SIGKILL
        unlock(project, by_hand=number == 0)
    return killed


def differences(ours: dict[str, object], theirs: dict[str, object]) -> list[str]:
    """Return the paths that only one run has written, or both and not the same."""
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


@pytest.mark.parametrize(
    ("kills", "among", "targets"),
    [(4, 7, ("results/3_partition/noise.parquet",)), pytest.param(20, 40, TARGETS, marks=pytest.mark.slow)],
    ids=["first steps", "all steps"],
)
def test_a_run_that_is_killed_ever_again_ends_as_an_undisturbed_one(
    undisturbed: Finished, tmp_path: Path, kills: int, among: int, targets: tuple[str, ...]
) -> None:
    project = copy_project(tmp_path / "killed")
    killed = killed_again_and_again(project, targets, kills, among)
    shown = project.snakemake("--rerun-incomplete", targets=targets)
    assert shown.returncode == 0, (shown.stdout + shown.stderr)[-3000:]
    assert killed >= kills - 2, "the last kills may come too late"
    ours, theirs = contents_of(project.folder / "results"), undisturbed.contents
    if targets != TARGETS:
        assert set(targets) <= {f"results/{name}" for name in ours}
        theirs = {name: content for name, content in theirs.items() if name in ours}
    assert differences(ours, theirs) == []
    left = [path.name for path in (project.folder / "results").rglob("*") if "partial-" in path.name]
    assert left == [], "what killed jobs had begun to write is gone"
    assert not list((project.folder / "results").rglob("*checkpoint*"))


def test_two_runs_in_one_folder_do_not_mix(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "shared")
    locks = project.folder / ".snakemake" / "locks"
    target = "results/1_index/images.parquet"
    with started(project, target) as first:
        assert wait_for(lambda: locks.is_dir() and any(locks.iterdir()), first)
        second = project.snakemake(targets=(target,))
        assert first.poll() is None
        assert second.returncode != 0 and "cannot be locked" in second.stderr and "--unlock" in second.stderr
        assert "Traceback" not in second.stderr
    third = project.snakemake(targets=(target,))
    assert third.returncode != 0 and "--unlock" in third.stderr, "a killed run leaves its lock, and says what to type"
    unlock(project, by_hand=True)
    assert not locks.is_dir() or not any(locks.iterdir())


@pytest.mark.parametrize("days", [-4000, 30])
def test_files_of_the_run_with_a_wrong_time_rerun_nothing(undisturbed: Finished, tmp_path: Path, days: int) -> None:
    project = copy_of(undisturbed.project, tmp_path / "clock")
    then = time.time() + days * 86400
    for path in (project.folder / "results" / "0_simulate" / "smears").glob("*"):
        os.utime(path, (then, then))
    assert project.planned_jobs() == {}


def test_a_list_of_tomorrow_is_named_before_anything_is_deleted(tmp_path: Path) -> None:
    """Snakemake alone would make the index, find it older than the list, and delete it, run after run."""
    project = copy_project(tmp_path / "clock")
    for k in range(10):
        picture(tmp_path / "in" / f"{k}.png", k)
    table = tmp_path / "in" / "list.csv"
    # More than Snakemake compares by content; without the column `split`, which a list need not have.
    lines = [f"{k}.png,{'SNE' if k % 2 else 'LY'},{'x' * 120_000}\n" for k in range(10)]
    table.write_text("image,label,notes\n" + "".join(lines))
    (tmp_path / "my.yaml").write_text(f"preset: laptop\ndata: '{table}'\n")
    target = "results/1_index/images.parquet"
    overlays = ("--configfile", str(tmp_path / "my.yaml"))
    assert project.snakemake(*overlays, targets=(target,)).returncode == 0
    made = (project.folder / target).read_bytes()
    ahead = time.time() + 30 * 86400
    os.utime(table, (ahead, ahead))
    shown = project.snakemake(*overlays, targets=(target,))
    assert shown.returncode != 0 and "Traceback" not in shown.stderr
    assert f"{table}: its time lies in the future" in shown.stderr and "touch" in shown.stderr
    assert (project.folder / target).read_bytes() == made
    os.utime(table, (1e8, 1e8))
    shown = project.snakemake("--dry-run", *overlays, targets=(target,))
    assert shown.returncode == 0 and "Nothing to be done" in shown.stdout + shown.stderr
