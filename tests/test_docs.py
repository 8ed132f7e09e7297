"""Pages lead somewhere: every link and anchor resolves, every page is in the site's navigation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parent.parent
DOCS = REPOSITORY / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *REPOSITORY.glob("*.md"), REPOSITORY / "config" / "README.md"])
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them alike."""
    headings = re.findall(r"^#+ +(.+?) *$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).strip().replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    return [link for link in LINK.findall(prose(page)) if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_resolves(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}: no such file"
        assert target.is_relative_to(REPOSITORY.resolve()), f"{page.name}: {link} leaves the repository"
        if anchor:
            assert anchor in anchors(target), (
                f"{page.name}: {link}: no such heading; there are {sorted(anchors(target))}"
            )


def named(nav: Any) -> list[str]:
    """Every file of the navigation."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [name for part in parts for name in named(part)]


def test_every_page_is_in_the_navigation_once() -> None:
    found = named(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"])
    assert sorted(found) == sorted(page.name for page in DOCS.glob("*.md")), "add new pages under nav in mkdocs.yml"


@pytest.mark.parametrize(
    ("tool", "file"), [("mkdocs", "requirements-docs.txt"), ("cyclonedx-bom", "requirements-sbom.txt")]
)
def test_tools_with_environments_of_their_own_are_pinned(tool: str, file: str) -> None:
    lines = (REPOSITORY / file).read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines if not line.startswith("#"))
    assert any(line.startswith(f"{tool}==") for line in lines)
