"""The promises of docs/architecture.md, checked."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from buffycoat.config import Config
from buffycoat.core.provenance import import_closure

REPOSITORY = Path(__file__).parent.parent
SOURCE = REPOSITORY / "src" / "buffycoat"
STAGES = ["simulate", "index", "crop", "partition", "restore", "classify", "embed", "refine", "report", "bundle"]
RULE_FILES = [REPOSITORY / "workflow" / "rules" / f"{n}_{stage}.smk" for n, stage in enumerate(STAGES)]
RULE_FILES.append(REPOSITORY / "workflow" / "rules" / "ablation.smk")
RULES = [
    (found.group(1) if (found := re.search(r'code_of\("buffycoat\.(\w+)\.', body)) else "no stage", rule, body)
    for file in RULE_FILES
    for rule, body in re.findall(r"^rule (\w+):\n(.*?)(?=^rule |^use rule |\Z)", file.read_text(), re.M | re.S)
]
NAMES = [f"{stage}.{rule}" for stage, rule, _ in RULES]


def test_every_stage_has_its_four_places() -> None:
    for number, stage in enumerate(STAGES):
        assert (SOURCE / stage / "settings.py").is_file()
        assert (REPOSITORY / "workflow" / "rules" / f"{number}_{stage}.smk").is_file()
        assert (REPOSITORY / "tests" / stage).is_dir()
        assert stage in Config.model_fields


@pytest.mark.parametrize(("stage", "rule", "body"), RULES, ids=NAMES)
def test_a_rule_is_a_module_a_function_and_a_key(stage: str, rule: str, body: str) -> None:
    module = importlib.import_module(f"buffycoat.{stage}.{rule}")
    step = getattr(module, rule)
    assert callable(step) and step.__doc__
    assert all(
        parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in inspect.signature(step).parameters.values()
    )
    section = Config.model_fields[stage].annotation
    assert section is not None and rule in section.model_fields
    assert f'code_of("buffycoat.{stage}.{rule}")' in body
    assert f'settings_of("{stage}.{rule}")' in body
    assert f"python -m buffycoat.{stage}.{rule}" in body


@pytest.mark.parametrize(("stage", "rule", "body"), RULES, ids=NAMES)
def test_a_rule_has_the_standard_parts_in_order(stage: str, rule: str, body: str) -> None:
    parts = ["output:", "log:", "benchmark:", "conda:", "threads:", "params:", "shell:"]
    places = [body.index(f"    {part}") for part in parts]
    assert places == sorted(places)
    assert body.lstrip().startswith('"""')
    assert "lambda" not in body and "run:" not in body and "script:" not in body
    assert "tee {log:q}" in body
    assert re.findall(r"\{(input|output|params|log)[.\w]*\}", body) in ([], ["params"]), "quote every path with :q"


@pytest.mark.parametrize(("stage", "rule", "body"), RULES, ids=NAMES)
def test_a_rule_writes_only_its_own_folder_and_reads_only_earlier_ones(stage: str, rule: str, body: str) -> None:
    number = STAGES.index(stage)
    written = body[body.index("    output:") : body.index("    params:")]
    assert {int(n) for n in re.findall(r"results/(\d)_", written)} == {number}
    if "    input:" in body:
        read = body[body.index("    input:") : body.index("    output:")]
        assert all(int(n) <= number for n in re.findall(r"results/(\d)_", read))


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_imports_another(stage: str) -> None:
    for file in (SOURCE / stage).glob("*.py"):
        imported = import_closure(f"buffycoat.{stage}.{file.stem}")
        others = {name.split(".")[1] for name in imported if "." in name} & set(STAGES)
        assert others <= {stage}, f"{file} reaches {others - {stage}}"


def test_shared_modules_import_no_stage() -> None:
    for file in [*SOURCE.glob("*.py"), *SOURCE.glob("tables/*.py")]:
        module = ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts)
        if file.name in ("config.py", "reference.py", "__init__.py"):
            continue  # these describe the whole
        assert not {name.split(".")[1] for name in import_closure(module) if "." in name} & set(STAGES), file


def test_the_dry_run_imports_nothing_heavy() -> None:
    code = (
        "import sys, buffycoat.config, buffycoat.provenance;"
        "print(sorted({'torch','timm','cv2','pandas','numpy','sklearn','cellpose','open_clip'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_environments_pin_what_requirements_pin() -> None:
    def pins(name: str, before: str) -> set[str]:
        found = re.findall(before + r"([\w.-]+==[\w.]+)", (REPOSITORY / name).read_text(), re.M)
        return {pin.lower().replace("_", "-") for pin in found}

    everything = pins("requirements.txt", "^")
    for name in ("envs/core.yaml", "envs/torch.yaml", "envs/cellpose.yaml"):
        assert pins(name, "- ") and pins(name, "- ") <= everything, name
    assert pins("pyproject.toml", '"') and pins("pyproject.toml", '"') <= everything


def test_nothing_is_unpickled() -> None:
    # torch.load is allowed where it reads tensors alone: the embedded backbone comes as a plain state dict.
    forbidden = re.compile(
        r"torch\.load\((?!.*weights_only=True)|pickle\.load|allow_pickle=True|yaml\.load\(|verify=False"
    )
    for file in SOURCE.rglob("*.py"):
        assert not forbidden.search(file.read_text()), file


def _functions(file: Path) -> list[tuple[str, int]]:
    tree = ast.parse(file.read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [(f"{file.name}:{node.name}", (node.end_lineno or 0) - node.body[0].lineno + 1) for node in found]


def test_functions_and_modules_are_short_enough_to_read() -> None:
    files = list(SOURCE.rglob("*.py"))
    assert [file.name for file in files if len(file.read_text().splitlines()) > 300] == []
    lengths = [entry for file in files for entry in _functions(file)]
    assert [entry for entry in lengths if entry[1] > 50] == []
    assert sum(length <= 45 for _, length in lengths) / len(lengths) >= 0.9


def test_rule_files_are_short() -> None:
    assert [file.name for file in RULE_FILES if len(file.read_text().splitlines()) > 220] == []
    assert len((REPOSITORY / "workflow" / "rules" / "common.smk").read_text().splitlines()) <= 90
