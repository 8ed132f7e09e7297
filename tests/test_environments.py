"""What the workflow promises to Snakemake's catalog, to conda and to containers, as far as it can be checked here."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import Distribution, packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from buffycoat.core.environment import installed
from buffycoat.core.provenance import ROOT, import_closure
from tests.test_layout import RULES

REPOSITORY = Path(__file__).parent.parent
ENVIRONMENTS = sorted((REPOSITORY / "envs").glob("*.yaml"))


def pins(environment: Path) -> dict[str, str]:
    """Version by canonical name."""
    parts = yaml.safe_load(environment.read_text())["dependencies"]
    (listed,) = (part["pip"] for part in parts if isinstance(part, dict))
    pairs = [line.split("==") for line in listed]
    return {canonicalize_name(name): version for name, version in pairs}


def needed_by(distribution: Distribution) -> set[str]:
    """What a distribution needs on this machine, without its extras."""
    needs = [Requirement(line) for line in distribution.requires or []]
    return {canonicalize_name(need.name) for need in needs if not need.marker or need.marker.evaluate({"extra": ""})}


def provided(environment: Path) -> set[str]:
    """Every package that an environment's pins bring along."""
    packages = installed()
    found: set[str] = set()
    waiting = list(pins(environment))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += needed_by(packages[name]) & set(packages)
    return found


def imported_at_once(module: str) -> set[str]:
    """Packages that a step imports before it does anything; what a method alone needs is imported inside it."""
    names: set[str] = set()
    for part in import_closure(module):
        path = ROOT.joinpath(*part.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"buffycoat", "__future__"}


@pytest.mark.parametrize(
    ("stage", "rule", "body"), [entry for entry in RULES if entry[0] != "no stage"], ids=lambda x: str(x)[:30]
)
def test_a_rule_s_environment_has_what_its_step_imports(stage: str, rule: str, body: str) -> None:
    (name,) = re.findall(r'"\.\./\.\./envs/(\w+\.yaml)"', body)
    there = provided(REPOSITORY / "envs" / name)
    distributions = packages_distributions()
    for package in imported_at_once(f"buffycoat.{stage}.{rule}"):
        names = {canonicalize_name(found) for found in distributions[package]}
        assert names & there, f"{rule}: {package} is not in {name}"


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda file: file.stem)
def test_an_environment_has_exact_versions_of_installed_packages(environment: Path) -> None:
    packages = installed()
    assert {name: packages[name].version for name in pins(environment)} == pins(environment)


def test_every_environment_is_used_and_every_used_one_is_there() -> None:
    used = {name for _, _, body in RULES for name in re.findall(r'"\.\./\.\./envs/(\w+\.yaml)"', body)}
    assert used == {file.name for file in ENVIRONMENTS}


def test_the_catalog_finds_what_it_asks_for() -> None:
    told = yaml.safe_load((REPOSITORY / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(told) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(told["software-stack-deployment"]) == {"conda", "apptainer", "apptainer+conda"}
    assert (REPOSITORY / "workflow" / "Snakefile").is_file() and (REPOSITORY / "config" / "README.md").is_file()


def test_the_container_copies_what_is_there_and_what_a_run_needs() -> None:
    text = (REPOSITORY / "Containerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (.*)$", text, re.M) for name in line.split()[:-1]}
    assert all((REPOSITORY / name).exists() for name in copied), copied
    assert copied >= {
        "requirements.txt",
        "pyproject.toml",
        "setup.py",
        "src",
        "workflow",
        "envs",
        "Snakefile",
        "config.yaml",
    }
