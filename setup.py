"""Puts the workflow, which lies beside src/ in a clone, into the package of a wheel; the rest is in pyproject.toml."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("workflow", "envs", "config.yaml")
"""What a run needs besides the package; buffycoat.config.workflow_folder finds it in both places."""


class BuildWithWorkflow(build_py):
    """Builds the package, then copies the workflow into it; an editable install uses the clone's own."""

    def run(self) -> None:
        """Build, and replace what an earlier build left."""
        super().run()
        if not self.editable_mode:
            for name in SHIPPED:
                target = Path(self.build_lib, "buffycoat", name)
                if Path(name).is_file():
                    shutil.copyfile(name, target)
                else:
                    shutil.rmtree(target, ignore_errors=True)
                    shutil.copytree(name, target, ignore=shutil.ignore_patterns(".*", "__pycache__"))


setup(cmdclass={"build_py": BuildWithWorkflow})
