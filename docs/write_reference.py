"""Writes the pages of reference in docs/ from the code: settings, tables, command line, Python. They cannot drift."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path
from typing import Any, TypeGuard

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import buffycoat.data.tables
from buffycoat import Predictor
from buffycoat.cli import app
from buffycoat.config import Config
from buffycoat.core.files import whole_file
from buffycoat.core.steps import run
from buffycoat.data.tables.schema import Table


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _shown_type(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) and "[" not in str(annotation) else str(annotation)
    for long, short in (("typing.", ""), ("buffycoat.", ""), ("pathlib.", "")):
        text = text.replace(long, short)
    return text


def _shown_default(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    elif isinstance(value, (list, tuple)):
        value = [item.model_dump(mode="json") if isinstance(item, BaseModel) else item for item in value]
    return json.dumps(value, default=str)


def _is_settings(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


BASIC = (
    "preset", "data", "seed", "index.columns.label", "index.columns.split", "index.columns.group",
    "index.make_labels.label_aliases", "index.make_labels.classes", "index.make_folds.folds", "crop.crop_cells.method",
    "crop.crop_cells.window_px", "crop.crop_cells.size_px", "restore.restore_cells.method", "classify.recipe",
    "classify.train_fold.backbone", "classify.train_fold.weights", "classify.train_fold.epochs",
    "classify.train_fold.batch", "embed.embed_cells.encoder", "embed.embed_cells.weights", "refine.fit_rules.rules",
    "statistics.resamples",
)  # fmt: skip
"""Settings of a first run on one's own images, in the order of the stages."""
HEADER = ["", "| setting | type | default | meaning |", "|---|---|---|---|"]


def settings_in(kind: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    """Return every setting below a class of settings, by its keys joined by dots."""
    fields: dict[str, FieldInfo] = {}
    for name, field in kind.model_fields.items():
        key = f"{prefix}{name}"
        fields |= settings_in(field.annotation, f"{key}.") if _is_settings(field.annotation) else {key: field}
    return fields


def _line(key: str, field: FieldInfo) -> str:
    shown = _shown_type(field.annotation), _shown_default(field.get_default(call_default_factory=True))
    return f"| {key} | `{_cell(shown[0])}` | `{_cell(shown[1])}` | {_cell(field.description or '')} |"


def configuration_page() -> str:
    """Return docs/configuration.md: every setting with its type, default and meaning."""
    every = settings_in(Config)
    lines = [
        "# Settings",
        "",
        "Written by `make docs` from `src/buffycoat/<stage>/settings.py`.",
        "",
        "Settings come from three places: the defaults below, which are those for full-size data; the preset",
        "(`workflow/presets/`); your file.",
        "Each replaces what it names. Dictionaries are merged key by key, and lists are replaced.",
        "An unknown key or a wrong type stops the run before it starts.",
        "`crop.crop_cells.window_px` is written `crop: {crop_cells: {window_px: 280}}` in YAML.",
        "",
        "Constants that a run never needs to change are in the code, in the module that uses them, with their source.",
        "",
        "## Basic settings",
        "",
        "These are enough for a first run on your own images.",
        *HEADER,
        *(_line(key, every[key]) for key in BASIC),
        "",
        "## Settings of the machine",
        "",
        "They do not change a result. Changing them runs nothing again and keeps the checkpoints of trainings.",
        *HEADER,
        *(_line(key, field) for key, field in every.items() if key.startswith("runtime.")),
        "",
        "## Advanced settings, by stage",
    ]
    for stage, section in Config.model_fields.items():
        if _is_settings(section.annotation) and stage != "runtime":
            left = {k: f for k, f in settings_in(section.annotation, f"{stage}.").items() if k not in BASIC}
            lines += ["", f"### {stage}", *HEADER, *(_line(key, field) for key, field in left.items())] if left else []
    return "\n".join(lines) + "\n"


def tables() -> list[Table]:
    """Return every table of the data dictionary, in order of name."""
    modules = [
        importlib.import_module(f"buffycoat.data.tables.{m.name}")
        for m in pkgutil.iter_modules(buffycoat.data.tables.__path__)
    ]
    found = {value.name: value for module in modules for value in vars(module).values() if isinstance(value, Table)}
    return [found[name] for name in sorted(found)]


def tables_page() -> str:
    """Return docs/tables.md: every table with its key and its columns."""
    lines = [
        "# Tables",
        "",
        "Written by `make docs` from `src/buffycoat/data/tables/`.",
        "All tables are Parquet. The key identifies a row.",
        "[Result files](results.md) says where each one is.",
    ]
    for table in tables():
        lines += [
            "",
            f"## {table.name}",
            "",
            f"Key: {', '.join(table.key)}",
            "",
            "| column | type | meaning |",
            "|---|---|---|",
        ]
        for column in table.columns:
            gaps = " (may be null)" if column.gaps else ""
            lines.append(f"| {column.name} | {column.type}{gaps} | {_cell(column.meaning)} |")
        if table.classes is not None:
            lines.append(f"| one per class, in the order of `classes` | {table.classes} | |")
    return "\n".join(lines) + "\n"


def _sentences(text: str) -> list[str]:
    """Return a docstring or help text as lines: one paragraph each, without the indentation of the code."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return [line for paragraph in paragraphs for line in ("", " ".join(paragraph.split()))]


def _shown_name(parameter: Any) -> str:
    """Return how an argument is called in a usage line: its own words, or its name in capitals."""
    if parameter.metavar:
        return str(parameter.metavar)
    name = f"{parameter.name.upper()}{'...' * (parameter.nargs == -1)}"
    return name if parameter.required else f"[{name}]"


def _option_line(parameter: Any) -> str:
    """Return the line of a table for an option or argument of a command."""
    is_option = parameter.param_type_name == "option"
    names = [*parameter.opts, *parameter.secondary_opts] if is_option else [_shown_name(parameter)]
    value = parameter.default
    if parameter.required:
        default = "required"
    elif isinstance(value, bool):
        # A flag without a negative form is off by default.
        default = "" if not parameter.secondary_opts else f"`{names[0 if value else 1]}`"
    else:
        default = "" if value is None or parameter.multiple else f"`{value}`"
    shown = " ".join(f"`{_cell(name)}`" for name in names)
    return f"| {shown} | {default} | {_cell(parameter.help or '')} |"


def commands() -> dict[str, Any]:
    """Return every command of `buffycoat` by name, in the order of the code."""
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def command_line_page() -> str:
    """Return docs/command-line.md: every command of `buffycoat` with its arguments and options."""
    lines = [
        "# Command line",
        "",
        "Written by `make docs` from `src/buffycoat/cli.py`.",
        "`buffycoat --help` and `buffycoat COMMAND --help` show the same.",
        "`buffycoat --version` prints the version.",
        "",
        "An error of the input is one line, and the exit status is then 2.",
    ]
    for name, command in commands().items():
        arguments = [_shown_name(one) for one in command.params if one.param_type_name == "argument"]
        words = " ".join(["buffycoat", name, "[OPTIONS]", *arguments])
        lines += ["", f"## buffycoat {name}", "", "```", words, "```"]
        lines += _sentences(command.help or "")
        lines += ["", "| argument or option | default | meaning |", "|---|---|---|"]
        lines += [_option_line(parameter) for parameter in command.params]
    return "\n".join(lines) + "\n"


EXAMPLE = """\
```python
from buffycoat import Predictor

with Predictor("results/bundle/bundle") as predictor:
    table = predictor.predict(["a.png", "folder/", "list.csv"])  # a pandas frame
    print(predictor.classes, table[["image_id", "label", "probability", "suspect"]])
```
"""
METHODS = ("classes", "predict", "verdict", "close")
"""Of Predictor, what a user calls."""


def _shown_parameters(function: Any) -> str:
    """Return the parameters of a method with their types and defaults, without `self`."""
    shown, is_keyword = [], False
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not is_keyword:
            is_keyword = True
            shown.append("*")
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        shown.append(f"{name}: {parameter.annotation}{default}")
    return f"({', '.join(shown)})"


def _signature(name: str, member: Any) -> str:
    """Return how a member of Predictor is called, as one line."""
    if isinstance(member, property) and member.fget:
        return f"predictor.{name}: {inspect.signature(member.fget).return_annotation}"
    if name == "__init__":
        return f"Predictor{_shown_parameters(member)}"
    return f"predictor.{name}{_shown_parameters(member)} -> {inspect.signature(member).return_annotation}"


def python_page() -> str:
    """Return docs/python.md: the class that labels new images, from its signatures and docstrings."""
    lines = [
        "# Python",
        "",
        "Written by `make docs` from `src/buffycoat/bundle/predictor.py`.",
        "",
        "`buffycoat.Predictor` labels new images by a [bundle](bundle.md). It does what `buffycoat predict` does.",
        "",
        *EXAMPLE.splitlines(),
        "",
        "Loading takes some seconds, so keep one predictor for many images.",
        "The columns of the frame: [Tables](tables.md#new_images).",
        "An error of the input is a `buffycoat.core.errors.InputError` with one line that says what to do.",
        "",
        "## Predictor",
        "",
        "```python",
        _signature("__init__", Predictor.__init__),
        "```",
        *_sentences(Predictor.__doc__ or ""),
    ]
    for name in METHODS:
        member = inspect.getattr_static(Predictor, name)
        lines += ["", f"## {name}", "", "```python", _signature(name, member), "```"]
        lines += _sentences(member.__doc__ or "")
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Return the text of every page that is written from the code, by its file name."""
    return {
        "configuration.md": configuration_page(),
        "tables.md": tables_page(),
        "command-line.md": command_line_page(),
        "python.md": python_page(),
    }


def write_reference(*, folder: Path = Path(__file__).parent) -> None:
    """Write all pages into `folder`."""
    for name, text in pages().items():
        with whole_file(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(write_reference)
