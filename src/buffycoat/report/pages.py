"""Pages from templates: escaped, self-contained, written whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from buffycoat.files import whole_file


def environment() -> jinja2.Environment:
    """Return the template environment: everything is escaped, and an undefined name is an error."""
    loader = jinja2.PackageLoader("buffycoat.report", ".")
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)


def write_page(template: str, content: dict[str, Any], path: Path) -> None:
    """Write the page that a template of this package makes of `content`, UTF-8."""
    text = environment().get_template(template).render(**content)
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
