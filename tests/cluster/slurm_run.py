"""Snakemake on a Slurm, with the profile of the repository."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.pipeline.workflow_run import TINY, Project

T = TypeVar("T")
PROFILE = "workflow/profiles/slurm"
FOR_THIS_CLUSTER = (
    "--workflow-profile", PROFILE,
    # Two cores do the work of all nodes, one disk is the shared file system, and nobody keeps accounts.
    "--jobs", "4", "--max-threads", "2", "--latency-wait", "60", "--slurm-status-command", "squeue",
    # After a job has ended the plugin asks after 2 seconds, then after 12, 22, ... more: most jobs here take about 10.
    "--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "1",
)  # fmt: skip


class SlurmRun:
    """A run of Snakemake that submits its jobs to Slurm; it has started when this is made."""

    def __init__(self, project: Project, *arguments: str, targets: tuple[str, ...] = (), config: tuple[str, ...] = ()):
        environment = {**os.environ, "PYTHONPATH": str(project.folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        # These jobs have GPUs that are only counted.
        environment.pop("BUFFYCOAT_REQUIRE_GPU", None)
        self.output = project.folder / f"snakemake-{time.time_ns()}.log"
        command = [sys.executable, "-m", "snakemake", *targets, "--configfile", TINY, *config, *FOR_THIS_CLUSTER]
        with self.output.open("w") as stream:
            self.process = subprocess.Popen(
                [*command, *arguments], cwd=project.folder, env=environment, stdout=stream, stderr=subprocess.STDOUT
            )

    def wait(self, seconds: float = 1800) -> int:
        """Return the exit status; a run that takes longer is ended, and with it its jobs."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            raise

    def stop(self) -> None:
        """End Snakemake as Ctrl-C does, so that it cancels its jobs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def text(self) -> str:
        """Return what Snakemake has written so far."""
        return self.output.read_text()

    def submitted(self) -> dict[str, str]:
        """Return what each Slurm job was submitted for, by its number: `rule_NAME` or `group_NAME_RULE_...`."""
        return dict(re.findall(r"SLURM jobid (\d+) \(log: \S*/slurm_logs/([^/]+)/", self.text()))

    def until(self, what: Callable[[], T | None], seconds: float = 900) -> T:
        """Return the first true answer of `what`, asked ever again while Snakemake runs."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if answer := what():
                return answer
            assert self.process.poll() is None, f"Snakemake ended first:\n{self.text()[-4000:]}"
            time.sleep(0.1)
        raise AssertionError(f"waited {seconds:g} s in vain:\n{self.text()[-4000:]}")


def environments_of(job: str, command: str) -> list[dict[str, str]]:
    """Return the environments of the processes of a Slurm job on this machine that run `command`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if command not in (folder / "cmdline").read_text().replace("\0", " "):
                continue
            pairs = [line.partition("=") for line in (folder / "environ").read_text().split("\0")]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        environment = {name: value for name, _, value in pairs}
        if environment.get("SLURM_JOB_ID") == job:
            found.append(environment)
    return found
