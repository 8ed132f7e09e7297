"""Running Snakemake on a copy of the project, and reading what it would do."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from buffycoat.core.files import read_json

REPOSITORY = Path(__file__).parent.parent.parent
TINY = "tests/pipeline/tiny.yaml"
TARGETS = ("all", "ablation", "pack_bundle")
"""What is not part of `all` has a target of its own; together they need every rule."""
GROUPS = {"all", "ablation"}
"""Rules that make nothing by themselves."""


@dataclass(frozen=True)
class Project:
    """A copy of the workflow and the package in a folder of its own; `snakemake` runs there."""

    folder: Path

    def snakemake(
        self, *arguments: str, config: str = TINY, targets: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        # Targets come first: behind --configfile they would pass for files.
        command = [sys.executable, "-m", "snakemake", *targets, "--cores", "2", "--configfile", config, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=1200, check=False
        )

    def planned(self, *arguments: str, targets: tuple[str, ...] = TARGETS) -> set[str]:
        """Return the rules that a dry run would execute, the targets left out."""
        return set(self.planned_jobs(*arguments, targets=targets))

    def planned_jobs(self, *arguments: str, targets: tuple[str, ...] = TARGETS) -> dict[str, int]:
        """Return how many jobs of each rule a dry run would execute, the targets left out."""
        shown = self.snakemake("--dry-run", *arguments, targets=targets)
        assert shown.returncode == 0, shown.stdout + shown.stderr
        text = shown.stdout + shown.stderr
        table = re.search(r"Job stats:\n.*?\n-+.*?\n(.*?)\ntotal", text, re.S)
        lines = [line.split() for line in table.group(1).splitlines()] if table else []
        return {rule: int(count) for rule, count in lines if rule not in GROUPS}

    def edges(self) -> dict[str, set[str]]:
        """Return, for each rule, the rules that use its output directly (from Snakemake's own graph of jobs).

        The rule that gathers portions stands once for each table: `gather_portions 2_crop/crops`.
        """
        shown = self.snakemake("--dag", "dot", "--forceall", targets=TARGETS)
        assert shown.returncode == 0, shown.stderr
        labels = dict(re.findall(r'(\d+)\[label = "([^"]+)"', shown.stdout))
        names = {number: re.sub(r"\\n(gathered: (\S+))?.*", r" \2", label).strip() for number, label in labels.items()}
        users: dict[str, set[str]] = {name: set() for name in names.values()}
        for maker, user in re.findall(r"(\d+) -> (\d+)", shown.stdout):
            users[names[maker]].add(names[user])
        return users


@dataclass(frozen=True)
class Finished:
    """A project that ran to its end, and what it had written then."""

    project: Project
    contents: dict[str, object]
    """By path below results/: what must not differ between two runs."""
    commands: dict[str, list[str]]
    """By rule: the command of one of its jobs, in words, without what keeps its log."""


def commands_of(shown: str) -> dict[str, list[str]]:
    """Return the command of a job of each rule, from what Snakemake prints with --printshellcmds."""
    found = re.findall(r"^(?:local)?rule (\w+):\n(?:    .*\n)+Shell command: (.*) 2>&1 \| tee ", shown, re.M)
    return {rule: shlex.split(command) for rule, command in found}


def contents_of(results: Path) -> dict[str, object]:
    """Return all that a run has written, by path: digests, and tables with speeds without these. Logs do not count."""
    found: dict[str, object] = {}
    for path in sorted(results.rglob("*")):
        name = path.relative_to(results).as_posix()
        if path.is_dir() or re.search(r"(^|/)(logs|benchmarks)/", name):
            continue
        if "history" in name:
            # Speeds stand beside losses.
            frame = pd.read_parquet(path)
            timed = [column for column in frame.columns if column.endswith("_per_s")]
            found[name] = frame.drop(columns=timed).to_csv(index=False)
        elif path.name == "provenance.json":
            # It tells when it was written.
            found[name] = {key: value for key, value in read_json(path).items() if key != "written"}
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def run_once(folder: Path) -> Finished:
    """Run a copy of the project in `folder` to the end, or return the run that another process of the tests made there.

    Whoever comes first holds the lock; the others wait for it. A run that failed is not tried again.
    """
    folder.parent.mkdir(exist_ok=True)
    result = folder.parent / "finished.json"
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            assert not folder.exists(), f"the whole workflow failed in another process of the tests: see {folder}"
            made = run_to_the_end(folder)
            result.write_text(json.dumps([made.contents, made.commands]))
        contents, commands = json.loads(result.read_text())
    return Finished(Project(folder), contents, commands)


def run_to_the_end(folder: Path) -> Finished:
    """Run a copy of the project in `folder`, all three targets in one call."""
    project = copy_project(folder)
    shown = project.snakemake("--printshellcmds", targets=TARGETS)
    assert shown.returncode == 0, (shown.stdout + shown.stderr)[-6000:]
    return Finished(project, contents_of(folder / "results"), commands_of(shown.stdout + shown.stderr))


def downstream(users: dict[str, set[str]], rules: set[str]) -> set[str]:
    """Return `rules` and all that depends on them, the targets left out."""
    reached: set[str] = set()
    waiting = list(rules)
    while waiting:
        rule = waiting.pop()
        if rule not in reached:
            reached.add(rule)
            waiting += users[rule]
    return {rule.partition(" ")[0] for rule in reached} - GROUPS


def copy_of(project: Project, folder: Path) -> Project:
    """Copy a project with its results, times and Snakemake's notes, for a test that changes something in it."""
    shutil.copytree(project.folder, folder, symlinks=True)
    return Project(folder)


def copy_project(folder: Path) -> Project:
    """Copy what a run needs into `folder`."""
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "workflow", "envs"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=unwanted)
    (folder / "tests" / "pipeline").mkdir(parents=True)
    shutil.copy(REPOSITORY / TINY, folder / TINY)
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(REPOSITORY / name, folder / name)
    return Project(folder)
