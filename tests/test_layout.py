"""The promises of docs/architecture.md, checked."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from buffycoat.config import Config, step_settings
from buffycoat.index.settings import Columns

REPOSITORY = Path(__file__).parent.parent
SOURCE = REPOSITORY / "src" / "buffycoat"
WORKFLOW = REPOSITORY / "workflow" / "rules"
NUMBERED = ["simulate", "index", "crop", "partition", "restore", "classify", "embed", "measure", "refine", "review"]
STAGES = [*NUMBERED, "report", "bundle"]
FOLDERS = {stage: f"{n}_{stage}" if stage in NUMBERED else stage for n, stage in enumerate(STAGES)}
"""The folder of each stage's results, which is also the name of its rule file."""
RULE_FILES = [WORKFLOW / f"{name}.smk" for name in (*FOLDERS.values(), "ablation", "gather")]
RULES = [
    (found.group(1) if (found := re.search(r'code_of\("buffycoat\.(\w+)\.', body)) else "no stage", rule, body)
    for file in RULE_FILES
    for rule, body in re.findall(r"^rule (\w+):\n(.*?)(?=^rule |^use rule |\Z)", file.read_text(), re.M | re.S)
]
NAMES = [f"{stage}.{rule}" for stage, rule, _ in RULES]
OF_STAGES = [entry for entry in RULES if entry[0] in STAGES]
"""Without the rule that gathers portions, which works for several stages and has no settings."""
NAMES_OF_STAGES = [f"{stage}.{rule}" for stage, rule, _ in OF_STAGES]

STEPS = sorted(
    name for file in RULE_FILES for name in re.findall(r'code_of\("buffycoat\.([\w.]+)"\)', file.read_text())
)
"""Every step as `<folder>.<module>`, the one that gathers portions among them."""
MOST_RULES = 34
MOST_MODULES = 144
"""Besides __init__.py."""
MOST_SETTINGS = 108
MOST_LINES_OF_COMMON = 135


def test_every_stage_has_its_four_places() -> None:
    for stage, folder in FOLDERS.items():
        assert (SOURCE / stage / "settings.py").is_file() == (stage in Config.model_fields), "where there is any to set"
        assert (WORKFLOW / f"{folder}.smk").is_file()
        assert (REPOSITORY / "tests" / stage).is_dir()


def test_the_rule_files_are_those_of_the_stages_and_three_more() -> None:
    assert {file.name for file in WORKFLOW.glob("*")} == {file.name for file in RULE_FILES} | {"common.smk"}


def test_the_top_of_the_package_holds_folders_alone() -> None:
    files = {path.name for path in SOURCE.iterdir() if path.is_file()}
    assert files == {"__init__.py", "config.py", "cli.py", "py.typed"}
    folders = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {"core", "data", "nets", "stats", "terminal", *STAGES}


def _names_its_settings(body: str, key: str) -> bool:
    """Return whether a rule takes the settings of `key`: by `settings_of`, or by a function of its wildcards."""
    by_wildcards = re.search(r"settings=(\w+),", body)
    if not by_wildcards:
        return f'settings=settings_of("{key}")' in body
    common = (WORKFLOW / "common.smk").read_text()
    (function,) = re.findall(rf"^def {by_wildcards[1]}\(wildcards\):\n(.*?)(?=^\S)", common, re.M | re.S)
    return f'settings_json(CONFIG, "{key}"' in function


@pytest.mark.parametrize(("stage", "rule", "body"), OF_STAGES, ids=NAMES_OF_STAGES)
def test_a_rule_is_a_module_a_function_and_a_key(stage: str, rule: str, body: str) -> None:
    module = importlib.import_module(f"buffycoat.{stage}.{rule}")
    step = getattr(module, rule)
    assert callable(step) and step.__doc__
    assert all(
        parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in inspect.signature(step).parameters.values()
    )
    assert f'code_of("buffycoat.{stage}.{rule}")' in body
    takes_settings = "settings" in inspect.signature(step).parameters
    assert (f"{stage}.{rule}" in step_settings()) == takes_settings == _names_its_settings(body, f"{stage}.{rule}")
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


@pytest.mark.parametrize(("stage", "rule", "body"), OF_STAGES, ids=NAMES_OF_STAGES)
def test_a_rule_writes_only_its_own_folder_and_reads_only_earlier_ones(stage: str, rule: str, body: str) -> None:
    folders = list(FOLDERS.values())
    written = body[body.index("    output:") : body.index("    params:")]
    assert set(re.findall(r"results/(\w+)/", written)) == {FOLDERS[stage]}
    if "    input:" in body:
        read = set(re.findall(r"results/(\w+)/", body[body.index("    input:") : body.index("    output:")]))
        assert read <= set(folders[: STAGES.index(stage) + 1])


def imports_of_ours() -> dict[str, set[str]]:
    """Return, by module, the modules of ours that it imports, also inside its functions."""
    names = {file: ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts) for file in SOURCE.rglob("*.py")}
    modules = {name.removesuffix(".__init__"): file for file, name in names.items()}
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, file in modules.items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names} & set(modules)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: relative import"
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    graph[name] |= {full if full in modules else str(node.module)} & set(modules)
    return graph


IMPORTS = imports_of_ours()


def reached(module: str) -> set[str]:
    """Return every module of ours that `module` imports, directly or not; itself only where it is in a circle."""
    found: set[str] = set()
    waiting = [*IMPORTS[module]]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += IMPORTS[name]
    return found


def folders_of(modules: set[str]) -> set[str]:
    return {name.split(".")[1] for name in modules if "." in name}


def test_no_modules_import_each_other_in_a_circle() -> None:
    # Two modules that reach each other are of one strongly connected component.
    reach = {name: reached(name) for name in IMPORTS}
    circles = {
        tuple(sorted({name} | {other for other in reach[name] if name in reach[other]}))
        for name in IMPORTS
        if name in reach[name]
    }
    assert not circles


def test_what_does_not_need_labels_does_not_wait_for_them() -> None:
    blind = ("crop_cells", "measure_noise", "flag_noisy", "train_gan", "restore_cells", "embed_cells",
             "measure_cells")  # fmt: skip
    inputs = {rule: body[: body.index("    output:")] for _, rule, body in RULES}
    for rule in blind:
        read = set(re.findall(r"(?<!ancient\()\"results/1_index/(\w+)", inputs[rule]))
        assert read <= {"images"}, f"{rule} would run again for a corrected label"


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_imports_another(stage: str) -> None:
    for name in IMPORTS:
        # The predictor runs every stage's functions on new images.
        if name.startswith(f"buffycoat.{stage}.") and (stage != "bundle" or name == "buffycoat.bundle.pack_bundle"):
            others = folders_of(reached(name)) & set(STAGES)
            assert others <= {stage}, f"{name} reaches {others - {stage}}"


def test_shared_modules_import_no_stage() -> None:
    for name in IMPORTS:
        if folders_of({name}) & {"core", "data", "nets", "stats"}:
            assert not folders_of(reached(name)) & set(STAGES), name


def test_core_imports_core_alone() -> None:
    for name in IMPORTS:
        if folders_of({name}) == {"core"}:
            assert folders_of(reached(name)) <= {"core"}, name


def test_the_dry_run_imports_nothing_heavy() -> None:
    heavy = {"torch", "timm", "cv2", "pandas", "numpy", "pyarrow", "sklearn", "cellpose", "open_clip"}
    code = f"import sys, buffycoat.config, buffycoat.core.provenance; print(sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


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
    assert [file.name for file in files if len(file.read_text().splitlines()) > 400] == []
    functions = [entry for file in files for entry in _functions(file)]
    lengths = [length for _, length in functions]
    assert [entry for entry in functions if entry[1] > 50] == []
    assert statistics.median(lengths) <= 15
    assert sum(length <= 40 for length in lengths) / len(lengths) >= 0.9


def test_rule_files_are_short() -> None:
    assert [file.name for file in RULE_FILES if len(file.read_text().splitlines()) > 220] == []
    assert len((WORKFLOW / "common.smk").read_text().splitlines()) <= MOST_LINES_OF_COMMON


def test_there_are_few_rules_and_modules() -> None:
    files = [REPOSITORY / "workflow" / "Snakefile", *WORKFLOW.glob("*.smk")]
    texts = [file.read_text() for file in files]
    rules = [name for text in texts for name in re.findall(r"^(?:use )?(?:rule|checkpoint) (\w+)", text, re.M)]
    assert len(rules) <= MOST_RULES
    modules = [file for file in SOURCE.rglob("*.py") if file.name != "__init__.py"]
    assert len(modules) <= MOST_MODULES


def _settings_in(kind: Any) -> int:
    """Return how many values a class of settings holds; the names of a table's columns are one."""
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)) or kind is Columns:
        return 1
    return sum(_settings_in(field.annotation) for field in kind.model_fields.values())


def test_there_are_few_settings() -> None:
    assert _settings_in(Config) <= MOST_SETTINGS
