"""The wheel, built and installed away from any clone: it holds the workflow, and the command works with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow
TREES = ("src", "workflow", "envs")
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "config.yaml", "Snakefile")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing which an earlier build left gets into it."""
    source = tmp_path_factory.mktemp("source")
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in TREES:
        shutil.copytree(REPOSITORY / name, source / name, ignore=unwanted)
    for name in FILES:
        shutil.copy(REPOSITORY / name, source / name)
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", "dist"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "."], cwd=source, check=True)
    (built,) = (source / "dist").glob("*.whl")
    return built


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel, and in it an empty folder to work in."""

    root: Path

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        folder = self.root / "empty"
        folder.mkdir(exist_ok=True)
        variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
        command = [str(self.root / "bin" / "buffycoat"), *words]
        return subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=300
        )


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The other packages are those of this Python; its link to the clone is not followed there."""
    root = tmp_path_factory.mktemp("installed")
    venv.create(root)
    python = root / "bin" / "python"
    options = ["--quiet", "--no-deps", "--no-index"]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", *options, wheel], check=True)
    (packages,) = root.glob("lib/python*/site-packages")
    # A folder named in a .pth file comes last, and the .pth files in it are not read.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installed(root)


def test_the_wheel_holds_the_workflow(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = [path for tree in ("workflow", "envs") for path in (REPOSITORY / tree).rglob("*") if path.is_file()]
    expected = {f"buffycoat/{path.relative_to(REPOSITORY).as_posix()}" for path in tracked}
    expected |= {"buffycoat/config.yaml", "buffycoat/py.typed", "buffycoat/crop/segmenter.safetensors"}
    assert expected <= names, expected - names
    assert {"buffycoat/workflow/Snakefile", "buffycoat/workflow/presets/laptop.yaml"} <= expected
    ours = {path.name for path in (REPOSITORY / "src").iterdir() if (path / "__init__.py").is_file()}
    assert {name.partition("/")[0].partition("-")[0] for name in names} == ours


def test_doctor_finds_the_package_s_own_workflow(installed: Installed) -> None:
    result = installed.run("doctor")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"workflow, in {installed.root}" in result.stdout and str(REPOSITORY) not in result.stdout
    assert result.stdout.splitlines()[-1] == "predict and run work here"
    assert installed.run("--version").stdout.startswith("buffycoat ")


def test_the_demo_s_dry_run_works_with_a_profile_in_the_wheel(installed: Installed) -> None:
    result = installed.run("run", "--", "-n", "--workflow-profile", "local")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "write_report" in result.stdout


def test_steps_find_the_same_package(installed: Installed) -> None:
    shutil.copy(REPOSITORY / "tests" / "pipeline" / "tiny.yaml", installed.root / "tiny.yaml")
    result = installed.run("run", "../tiny.yaml", "--", "results/1_index/images.parquet", "--cores", "2")
    assert result.returncode == 0, result.stdout + result.stderr
    assert (installed.root / "empty" / "results" / "1_index" / "images.parquet").is_file()
