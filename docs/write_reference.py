"""Writes docs/configuration.md and docs/tables.md from the settings and the data dictionary: they cannot drift."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any, TypeGuard

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import buffycoat.data.tables
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
        "# Every setting",
        "",
        "Written by `make docs` from `src/buffycoat/<stage>/settings.py`.",
        "A configuration has three layers: the defaults below, which are those of full-size data; the preset",
        "(`workflow/presets/`); your one file. Each replaces what it names: dictionaries are merged key by key, lists",
        "are replaced. An unknown key or a wrong type stops the dry run.",
        "`crop.crop_cells.window_px` is written `crop: {crop_cells: {window_px: 280}}` in YAML.",
        "",
        "What no scientist changes is a named constant in the module that uses it, with its source beside it.",
        "",
        "## Basic settings",
        "",
        "These are enough for a first run on your own images.",
        *HEADER,
        *(_line(key, every[key]) for key in BASIC),
        "",
        "## Settings of the machine",
        "",
        "They are no part of a result: a change runs nothing again and keeps the checkpoints of trainings.",
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
        "# Every table",
        "",
        "Written by `make docs` from `src/buffycoat/data/tables/`. All are Parquet; the key identifies a row.",
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


def write_reference(*, folder: Path = Path(__file__).parent) -> None:
    """Write both pages into `folder`."""
    for name, text in (("configuration.md", configuration_page()), ("tables.md", tables_page())):
        with whole_file(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(write_reference)
