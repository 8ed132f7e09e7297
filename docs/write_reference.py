"""Writes docs/configuration.md and docs/tables.md from the settings and the data dictionary: they cannot drift."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

from pydantic import BaseModel

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


def configuration_page() -> str:
    """Return docs/configuration.md: every setting with its type, default and meaning."""
    overall = [name for name, field in Config.model_fields.items() if field.annotation is int]
    lines = [
        "# Every setting",
        "",
        "Written by `make docs` from `src/buffycoat/<stage>/settings.py`. The defaults are those of full-size data;",
        "`config.yaml` and `workflow/presets/` override them. An unknown key or a wrong type stops the dry run.",
        "",
        *(
            f"- `{name}` (int, default {Config.model_fields[name].default}): {Config.model_fields[name].description}"
            for name in overall
        ),
    ]
    for stage, section in Config.model_fields.items():
        if stage in overall:
            continue
        lines += ["", f"## {stage}"]
        for rule, field in getattr(section.annotation, "model_fields", {}).items():
            holder = field.annotation
            if not (isinstance(holder, type) and issubclass(holder, BaseModel)):
                lines += [
                    "",
                    f"`{stage}.{rule}` ({_shown_type(holder)}, default `{_shown_default(field.default)}`):"
                    f" {field.description}",
                ]
                continue
            lines += ["", f"### {stage}.{rule}", "", "| setting | type | default | meaning |", "|---|---|---|---|"]
            for name, setting in holder.model_fields.items():
                row = (_shown_type(setting.annotation), _shown_default(setting.get_default(call_default_factory=True)))
                lines.append(f"| {name} | `{_cell(row[0])}` | `{_cell(row[1])}` | {_cell(setting.description or '')} |")
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
