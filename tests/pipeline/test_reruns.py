"""What makes a step run again: a science setting, an input, an expression of its code; nothing else.

What is ours (which params change) is checked in process, for every setting and every step; that Snakemake then runs the
rule and what follows is checked with a handful of real dry runs.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import typing
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from buffycoat.config import Config, read_layers, science_json, settings_json, step_settings
from buffycoat.core import provenance
from buffycoat.core.errors import InputError
from buffycoat.core.settings import Runtime
from tests.pipeline.workflow_run import REPOSITORY, TARGETS, TINY, Project, copy_of, downstream
from tests.test_layout import STEPS

TELL = {"write_report", "pack_bundle", "write_provenance"}
"""Rules that show the whole configuration, so that any science setting reaches them."""
MADE_BY_STEPS_OF_LABELS = {"make_folds", "train_fold", "train_head", "fit_rules", "refine_labels", "score_labels"}
LABEL_BLIND = {
    "draw_smears", "make_index", "train_segmenter", "crop_cells", "measure_noise", "flag_noisy",
    "train_gan", "restore_cells", "embed_cells", "measure_cells", "gather_portions",
}  # fmt: skip
"""Rules that corrected labels never run again."""


@pytest.fixture(scope="module")
def own(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the finished project, in which these tests may change files."""
    return copy_of(finished, tmp_path_factory.mktemp("reruns") / "project")


@pytest.fixture(scope="module")
def users(users: dict[str, set[str]]) -> dict[str, set[str]]:
    # What these steps take of the labels does not make them run again: ancient() in the rules.
    return {**users, "make_labels": users["make_labels"] - {"train_gan", "embed_cells"}}


@pytest.fixture(scope="module")
def tiny() -> dict[str, Any]:
    raw: dict[str, Any] = yaml.safe_load((REPOSITORY / TINY).read_text())
    return raw


def nested(keys: Iterable[str], value: object) -> dict[str, Any]:
    """Return {a: {b: value}} for the keys a, b."""
    first, *rest = keys
    return {first: nested(rest, value) if rest else value}


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {key: merged(below[key], above[key]) for key in above if isinstance(below.get(key), dict) and above[key]}
    return {**below, **above, **both}


def candidates(value: Any, annotation: Any) -> Iterator[Any]:
    """Yield values of a setting that differ from `value`; not all of them need be valid."""
    for part in (annotation, *typing.get_args(annotation)):
        if typing.get_origin(part) is typing.Literal:
            yield from (option for option in typing.get_args(part) if option != value)
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, (int, float)):
        yield from (value + 1, value + 32, value - 1, value / 2, value * 0.9 + 0.01)
    elif isinstance(value, dict):
        yield from ({**value, "PC": 2.0}, {**value, "other": "SNE"})
    elif isinstance(value, (list, tuple)):
        yield from ([*value, 7], list(value)[:-1], ["SNE", "LY"], [x + 0.5 for x in value if isinstance(x, float)])
        yield from ([x / 2 for x in value if isinstance(x, float)], [x + 1 for x in value if isinstance(x, int)])
    yield from ("other", 0.5, 3, [], ["Snakefile"], "a <name>", "results/0_simulate/smears")


def leaves() -> list[tuple[str, str]]:
    return [(key, name) for key, kind in step_settings().items() for name in kind.model_fields]


RULE = {"rescued": "PC", "hides_in": ["LY"], "beta": 2.0, "tau": 0.1}
NEEDED = {("refine.fit_rules", "thresholds"): {"refine": {"fit_rules": {"rules": [RULE]}}}}
"""What must be set beside a setting, so that it may have another value."""


def changed(tiny: dict[str, Any], key: str, name: str) -> Config:
    """Return the tiny run's configuration with another valid value of one setting."""
    before: Any = read_layers(tiny)[0]
    for part in key.split("."):
        before = getattr(before, part)
    field = type(before).model_fields[name]
    for value in candidates(getattr(before, name), field.annotation):
        try:
            config = read_layers(merged(tiny, nested([*key.split("."), name], value)))[0]
        except InputError:
            continue
        after: Any = config
        for part in key.split("."):
            after = getattr(after, part)
        if getattr(after, name) != getattr(before, name):
            return config
    raise AssertionError(f"no other valid value of {key}.{name} is known here: add one to `candidates`")


@pytest.mark.parametrize(("key", "name"), leaves(), ids=lambda part: str(part))
def test_a_setting_changes_the_params_of_its_own_step_alone(tiny: dict[str, Any], key: str, name: str) -> None:
    base = merged(tiny, NEEDED.get((key, name), {}))
    before, after = read_layers(base)[0], changed(base, key, name)
    differing = {step for step in step_settings() if settings_json(before, step) != settings_json(after, step)}
    assert differing == {key}
    assert science_json(before) != science_json(after), "the report tells it"


@pytest.mark.parametrize("name", list(Runtime.model_fields))
def test_a_machine_setting_changes_no_params(tiny: dict[str, Any], name: str) -> None:
    before = read_layers(tiny)[0]
    field = Runtime.model_fields[name]
    for value in candidates(getattr(before.runtime, name), field.annotation):
        try:
            after = read_layers(merged(tiny, {"runtime": {name: value}}))[0]
        except InputError:
            continue
        if after.runtime != before.runtime:
            break
    assert after.runtime != before.runtime
    assert all(settings_json(before, step) == settings_json(after, step) for step in step_settings())
    assert science_json(before) == science_json(after)


@contextmanager
def package_at(root: Path) -> Iterator[None]:
    """Let the digests be those of the package below `root`."""
    before = provenance.ROOT
    provenance.ROOT = root
    provenance.forget()
    try:
        yield
    finally:
        provenance.ROOT = before
        provenance.forget()


def digests(root: Path) -> dict[str, str]:
    with package_at(root):
        return {step: provenance.code_digest(f"buffycoat.{step}") for step in STEPS}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("code")
    shutil.copytree(REPOSITORY / "src" / "buffycoat", root / "buffycoat", ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture(scope="module")
def before(tree: Path) -> dict[str, str]:
    return digests(tree)


@contextmanager
def edited(file: Path, text: str) -> Iterator[None]:
    """Replace the file's text for the length of the block."""
    kept = file.read_text()
    file.write_text(text)
    try:
        yield
    finally:
        file.write_text(kept)


def with_expression(text: str, function: str) -> str:
    """Return a module's text with one more expression in the body of one of its functions."""
    module = ast.parse(text)
    (step,) = (node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == function)
    step.body.insert(1, ast.parse("ADDED = 1 + 1").body[0])
    return ast.unparse(module)


HALVES = [
    {step for number, step in enumerate(STEPS) if (number >> bit) % 2 == odd}
    for bit in range(len(STEPS).bit_length())
    for odd in (0, 1)
]
"""For any two steps there is one of these sets that holds the first and not the second."""


@pytest.mark.parametrize("steps", [half for half in HALVES if half], ids=lambda steps: f"{len(steps)} of {len(STEPS)}")
def test_an_expression_changes_the_digest_of_its_own_step_alone(
    tree: Path, before: dict[str, str], steps: set[str]
) -> None:
    """No step outside the set changes with it; as these sets tell any two steps apart, none changes with another."""
    with ExitStack() as edits:
        for step in steps:
            module = tree.joinpath("buffycoat", *step.split(".")).with_suffix(".py")
            edits.enter_context(edited(module, with_expression(module.read_text(), step.rpartition(".")[2])))
        after = digests(tree)
    assert {name for name in STEPS if before[name] != after[name]} == steps


def test_any_two_steps_are_told_apart() -> None:
    assert all(any(a in half and b not in half for half in HALVES) for a in STEPS for b in STEPS if a != b)


class Reworded(ast.NodeTransformer):
    """Rewords docstrings, descriptions of settings and columns, log lines and the texts of errors."""

    def __init__(self) -> None:
        self.count = 0

    def _text(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            self.count += 1
            return ast.Constant(node.value + " In other words.")
        if isinstance(node, ast.JoinedStr):
            self.count += 1
            return ast.JoinedStr([*node.values, ast.Constant(" In other words.")])
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        node.value = self._text(node.value) if isinstance(node.value, ast.Constant) else self.visit(node.value)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        holder = getattr(getattr(node.func, "value", None), "id", "")
        if (holder == "log" and name in ("info", "warning", "error")) or name.endswith(("Error", "Problem")):
            node.args = [self._text(arg) for arg in node.args]
        if name == "Field":
            for keyword in node.keywords:
                if keyword.arg == "description":
                    keyword.value = self._text(keyword.value)
        if name == "Column" and len(node.args) > 2:
            node.args[2] = self._text(node.args[2])
        return node


def test_rewording_any_text_changes_no_digest(tree: Path, before: dict[str, str], tmp_path: Path) -> None:
    reworded, writer = tmp_path / "buffycoat", Reworded()
    shutil.copytree(tree / "buffycoat", reworded)
    for file in reworded.rglob("*.py"):
        file.write_text(
            "# a comment\n" + ast.unparse(ast.fix_missing_locations(writer.visit(ast.parse(file.read_text()))))
        )
    assert writer.count > 1500
    assert digests(tmp_path) == before


def test_what_runs_names_and_writes_changes_no_digest(tree: Path, before: dict[str, str]) -> None:
    with ExitStack() as edits:
        for file in (tree / "buffycoat" / "core").glob("*.py"):
            edits.enter_context(edited(file, file.read_text() + "\n\nADDED = 1\n"))
        assert digests(tree) == before


def test_a_shared_function_changes_the_digests_of_its_users_alone(tree: Path, before: dict[str, str]) -> None:
    module = tree / "buffycoat" / "stats" / "scores.py"
    with edited(module, with_expression(module.read_text(), "resample")):
        after = digests(tree)
    affected = {step for step in STEPS if before[step] != after[step]}
    assert affected and not affected & {"crop.crop_cells", "classify.train_fold", "embed.embed_cells"}


def test_every_step_has_a_rule(users: dict[str, set[str]]) -> None:
    rules = {name.partition(" ")[0] for name in users}
    assert {step.rpartition(".")[2] for step in STEPS} == rules - {"all", "ablation"}


def test_a_second_run_does_nothing_though_the_project_was_moved(finished: Project, own: Project) -> None:
    assert own.folder != finished.folder
    shown = own.snakemake(targets=TARGETS)
    assert shown.returncode == 0 and "Nothing to be done" in shown.stdout + shown.stderr


@pytest.mark.parametrize(
    ("key", "overlay"),
    [
        ("crop.crop_cells", {"window_px": 225}),
        ("embed.train_head", {"epochs": 3}),
        ("bundle.pack_bundle", {"name": "other"}),
    ],
)
def test_snakemake_runs_the_changed_rule_and_what_follows(
    own: Project, users: dict[str, set[str]], key: str, overlay: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "overlay.yaml"
    file.write_text(yaml.safe_dump(nested(key.split("."), overlay)))
    expected = downstream(users, {key.rpartition(".")[2], *TELL})
    assert own.planned("--configfile", TINY, str(file)) == expected


def test_snakemake_runs_the_rule_of_a_changed_expression_and_what_follows(
    own: Project, users: dict[str, set[str]]
) -> None:
    module = own.folder / "src" / "buffycoat" / "classify" / "combine_folds.py"
    with edited(module, with_expression(module.read_text(), "combine_folds")):
        # The provenance tells the digest of every step's code.
        assert own.planned() == downstream(users, {"combine_folds", "write_provenance"})


def test_machine_settings_texts_and_time_stamps_rerun_nothing(own: Project, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"runtime": {"micro_batch": 4, "checkpoint_minutes": 50}}))
    for folder in ("src", "workflow"):
        for file in (own.folder / folder).rglob("*"):
            os.utime(file)
    settings = own.folder / "src" / "buffycoat" / "crop" / "settings.py"
    with edited(settings, settings.read_text().replace('description="', 'description="In other words, ')):
        assert own.planned("--configfile", TINY, str(overlay)) == set()


@contextmanager
def moved_away(file: Path) -> Iterator[None]:
    """Take the file out of the results for the length of the block."""
    kept = file.with_suffix(".kept")
    file.rename(kept)
    try:
        yield
    finally:
        kept.rename(file)


def test_a_deleted_product_is_made_again(own: Project) -> None:
    with moved_away(own.folder / "results" / "report" / "submission.csv"):
        assert "write_predictions" in own.planned() <= {"write_predictions", "write_report", "write_provenance"}


def test_a_deleted_intermediate_is_made_again_when_something_needs_it(
    own: Project, users: dict[str, set[str]], tmp_path: Path
) -> None:
    with moved_away(own.folder / "results" / "1_index" / "folds.parquet"):
        assert own.planned() == set(), "the report stands: nothing needs the table"
        assert own.planned(targets=("results/1_index/folds.parquet",)) == {"make_folds"}
        overlay = tmp_path / "overlay.yaml"
        overlay.write_text(yaml.safe_dump({"embed": {"train_head": {"epochs": 3}}}))
        planned = own.planned("--configfile", TINY, str(overlay))
        assert {"make_folds", "train_head", "write_report"} <= planned <= downstream(users, {"make_folds"})


@pytest.fixture(scope="module")
def table_run(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of a user's own table, whose results pass for finished: a dry run looks at times and inputs alone."""
    folder = tmp_path_factory.mktemp("own") / "project"
    shutil.copytree(finished.folder, folder, ignore=shutil.ignore_patterns(".snakemake"))
    images = pd.read_parquet(folder / "results" / "1_index" / "images.parquet")
    labels = pd.read_parquet(folder / "results" / "1_index" / "labels.parquet").set_index("image_id")
    given = labels.loc[images["image_id"], "label"].fillna("").to_numpy()
    table = pd.DataFrame({"image": images["path"], "label": given, "split": images["role"]})
    table.to_csv(folder / "cells.csv", index=False)
    preset = yaml.safe_load((folder / "workflow" / "presets" / "demo.yaml").read_text())
    preset = {name: section for name, section in preset.items() if name not in ("data", "simulate", "index")}
    (folder / "preset.yaml").write_text(yaml.safe_dump(preset))
    raw = yaml.safe_load((folder / TINY).read_text())
    del raw["simulate"], raw["crop"]["train_segmenter"]
    (folder / "own.yaml").write_text(yaml.safe_dump({**raw, "preset": "preset.yaml", "data": "cells.csv"}))
    project = Project(folder)
    shown = project.snakemake("--touch", config="own.yaml", targets=("all",))
    assert shown.returncode == 0, (shown.stdout + shown.stderr)[-3000:]
    return project


def planned_of(project: Project) -> set[str]:
    return project.planned("--configfile", "own.yaml", targets=("all",))


def test_five_corrected_labels_train_and_refine_again_and_nothing_before(table_run: Project) -> None:
    assert planned_of(table_run) == set()
    table = table_run.folder / "cells.csv"
    frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    rows = frame.index[(frame["split"] == "train") & (frame["label"] == "SNE")][:5]
    assert len(rows) == 5
    with edited(table, frame.assign(label=frame["label"].mask(frame.index.isin(rows), "BNE")).to_csv(index=False)):
        planned = planned_of(table_run)
    assert {"make_labels", *MADE_BY_STEPS_OF_LABELS} <= planned
    assert not planned & LABEL_BLIND


def test_every_digest_is_told_by_the_provenance(finished: Project) -> None:
    text = (finished.folder / "results" / "report" / "provenance.json").read_text()
    assert set(json.loads(text)["code"]) >= set(STEPS)
