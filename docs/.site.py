"""Hooks of mkdocs: files of the repository that pages link to, such as measurements, become part of the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)")
REPOSITORY = Path(__file__).parent.parent
PLACE = "repository"


def on_files(files: Files, config: Any) -> Files:
    """Add every file outside docs/ that a page links to, as it is."""
    pages = [file.content_string for file in files.documentation_pages()]
    for name in sorted({name for text in pages for name in OUTSIDE.findall(text)}):
        # As text: a page of the repository would be rendered, with links of its own that lead nowhere here.
        target = f"{PLACE}/{name}.txt" if name.endswith(".md") else f"{PLACE}/{name}"
        files.append(File.generated(config, target, content=(REPOSITORY / name).read_bytes()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point links that leave docs/ to the files' place in the site."""

    def inside(found: re.Match[str]) -> str:
        return f"]({PLACE}/{found.group(1)}" + ".txt" * found.group(1).endswith(".md")

    return OUTSIDE.sub(inside, markdown)
