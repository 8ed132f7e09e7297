"""Running Snakemake on a copy of the project, and reading what it would do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
TINY = "tests/pipeline/tiny.yaml"
TARGETS = ("all", "ablation", "bundle")
"""What is not part of `all` has a target of its own; together they need every rule."""


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
        return {rule: int(count) for rule, count in lines if rule not in TARGETS}

    def edges(self) -> dict[str, set[str]]:
        """Return, for each rule, the rules that use its output directly (from Snakemake's own rule graph)."""
        shown = self.snakemake("--rulegraph", "dot", "--forceall", targets=TARGETS)
        assert shown.returncode == 0, shown.stderr
        names = dict(re.findall(r'(\d+)\[label = "(\w+)"', shown.stdout))
        users: dict[str, set[str]] = {name: set() for name in names.values()}
        for maker, user in re.findall(r"(\d+) -> (\d+)", shown.stdout):
            users[names[maker]].add(names[user])
        return users


def downstream(users: dict[str, set[str]], rules: set[str]) -> set[str]:
    """Return `rules` and all that depends on them, the targets left out."""
    found, waiting = set(), list(rules)
    while waiting:
        rule = waiting.pop()
        if rule not in found:
            found.add(rule)
            waiting += users[rule]
    return found - set(TARGETS)


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
