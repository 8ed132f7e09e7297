"""Pages are true: links resolve, commands parse, settings exist, messages and figures are those of the code."""

from __future__ import annotations

import csv
import functools
import json
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from buffycoat.cli import app
from buffycoat.config import Config

REPOSITORY = Path(__file__).parent.parent
DOCS = REPOSITORY / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *REPOSITORY.glob("*.md"), REPOSITORY / "config" / "README.md"])
WRITTEN = [page for page in PAGES if page.name not in ("CHANGELOG.md", "configuration.md", "tables.md")]
"""Pages written by hand, of today."""
BEGINNERS = [REPOSITORY / "README.md", *(DOCS / f"{name}.md" for name in ("first-run", "your-images", "report"))]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.M | re.S)
MOST_WORDS, MOST_FOR_BEGINNERS = 45, 35
UNCLEAR = ("seal", "receipt", "twin", "twins", "bad days", "yardstick", "the house", "chain works")
"""Words of our own that a reader does not know."""


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them alike."""
    headings = re.findall(r"^#+ +(.+?) *$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).strip().replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    return [link for link in LINK.findall(prose(page)) if not re.match(r"[a-z]+:", link)]


def blocks(page: Path, language: str) -> list[str]:
    """The text of a page's blocks of code in one language; empty: none is named."""
    return [text for _, named, text in BLOCK.findall(page.read_text()) if named == language]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
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
    for picture in PICTURE.findall(prose(page)):
        assert (page.parent / picture).is_file(), f"{page.name}: no picture {picture}"


def test_every_page_that_the_code_names_exists() -> None:
    folders = ("src", "workflow", "config", "tests", "envs")
    files = [file for folder in folders for file in (REPOSITORY / folder).rglob("*") if file.is_file()]
    files += [REPOSITORY / name for name in ("Makefile", "Containerfile", "config.yaml", "CHANGELOG.md")]
    texts = {file: file.read_text(errors="replace") for file in files if file.suffix not in (".pyc", ".safetensors")}
    for file, text in texts.items():
        for name in re.findall(r"\bdocs/[\w-]+\.md", text):
            assert (REPOSITORY / name).is_file(), f"{file.relative_to(REPOSITORY)} names {name}, which is no page"


def named(nav: Any) -> list[str]:
    """Every file of the navigation."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [name for part in parts for name in named(part)]


def test_every_page_is_in_the_navigation_and_in_the_overview_once() -> None:
    pages = sorted(page.name for page in DOCS.glob("*.md"))
    assert sorted(named(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"])) == pages, "see mkdocs.yml"
    shown = {link.partition("#")[0] for link in links(DOCS / "README.md")}
    assert set(pages) - shown == {"README.md"}, "see docs/README.md"


def test_the_first_page_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 90


def sentences(page: Path) -> Iterator[str]:
    """The sentences of a page's prose: of paragraphs, points of lists and cells of tables, without addresses."""
    text = re.sub(r"\]\([^)]*\)", "]", prose(page))
    for line in text.splitlines():
        for part in line.split("|"):
            yield from re.split(r"(?<=[.:;?!])\s|·", part)


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_sentences_are_short(page: Path) -> None:
    most = MOST_FOR_BEGINNERS if page in BEGINNERS else MOST_WORDS
    assert [sentence for sentence in sentences(page) if len(sentence.split()) > most] == []


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_words_are_those_of_the_field(page: Path) -> None:
    text = " ".join(prose(page).lower().split())
    assert [word for word in UNCLEAR if re.search(rf"\b{word}\b", text)] == []


def commands(page: Path) -> list[list[str]]:
    """Every `buffycoat ...` of a page as words: the lines in blocks of code, and what stands between backticks."""
    lines = [line for text in blocks(page, "") for line in text.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", prose(page))
    found = [re.search(r"(?:^\s*|^[A-Z_]+=\S+ )(buffycoat [a-z-].*)", line) for line in lines]
    return [shlex.split(match[1].replace("…", ""), comments=True) for match in found if match]


def test_every_command_of_ours_on_a_page_can_be_parsed() -> None:
    group: Any = typer.main.get_command(app)
    assert sum(len(commands(page)) for page in WRITTEN) > 40
    for page in WRITTEN:
        for _, name, *words in commands(page):
            if name.startswith("--") or page.name == "command-line.md" or "COMMAND" in words:
                continue
            assert name in group.commands, f"{page.name}: buffycoat {name}: no such command"
            if len(words) == 0 and name != "run":
                continue  # the command is named, not called
            # Raises on an unknown option, or where something is missing.
            group.commands[name].make_context(name, words)


FILES = (".py", ".md", ".csv", ".html", ".json", ".parquet")


@functools.cache
def settings() -> set[str]:
    """Every setting, by its keys joined by dots."""
    script = runpy.run_path(str(DOCS / "write_reference.py"))
    return set(script["settings_in"](Config))


def is_setting(key: str) -> bool:
    """Whether a key is a setting, a section of settings, or inside a setting that holds a dictionary."""
    return any(key == known or known.startswith(f"{key}.") or key.startswith(f"{known}.") for known in settings())


def keys_of(content: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(content, dict) and content:
        for key, value in content.items():
            yield from keys_of(value, f"{prefix}{key}.")
    else:
        yield prefix.removesuffix(".")


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    sections = "|".join(Config.model_fields)
    for key in re.findall(rf"`((?:{sections})\.[a-z_.]+[a-z_])[`:]", prose(page)):
        assert is_setting(key) or key.endswith(FILES), f"{page.name}: {key} is no setting"
    for text in [*blocks(page, "yaml"), *re.findall(rf"`((?:{sections}): \{{[^`]*\}})`", prose(page))]:
        for key in keys_of(yaml.safe_load(text)):
            assert is_setting(key), f"{page.name}: {key} is no setting"
        # Raises where a value is of another kind.
        Config.model_validate({"preset": "laptop", "data": "cells", **yaml.safe_load(text)})


def test_every_command_of_snakemake_on_a_page_can_be_parsed() -> None:
    from snakemake.cli import get_argument_parser

    parser = get_argument_parser()
    checked = 0
    for page in WRITTEN:
        lines = [line for text in blocks(page, "") for line in text.replace("\\\n", " ").splitlines()]
        ours = [words[words.index("--") + 1 :] for words in commands(page) if "--" in words]
        for line in lines:
            if match := re.match(r" *snakemake (.*)", line):
                ours.append(shlex.split(re.split(r"&&|  #", match[1])[0], comments=True))
        for words in ours:
            if not any(word in ("TARGET", "...") for word in words):
                # Ends the process on an unknown option.
                parser.parse_args(words)
                checked += 1
    assert checked > 20


@functools.cache
def code() -> str:
    """The text of the code, where strings over several lines are joined."""
    files = [*(REPOSITORY / "src").rglob("*.py"), REPOSITORY / "Makefile"]
    text = "\n".join(file.read_text() for file in files)
    return re.sub(r"[\"']\s*\n\s*f?[\"']", "", text)


FOREIGN = (
    "ModuleNotFoundError", "Config file is not valid", "FileNotFoundError", "Directory cannot be locked",
    "IncompleteFilesException", "Killed", "Job submission failed",
)  # fmt: skip
"""Messages of Python, Snakemake and the system."""


def messages() -> list[str]:
    """Every message that the page of troubleshooting lists, in the first column of its tables."""
    rows = re.findall(r"^\| (`.*?) \|", (DOCS / "troubleshooting.md").read_text(), re.M)
    return [message for row in rows for message in re.findall(r"`([^`]+)`", row)]


@pytest.mark.parametrize("message", messages())
def test_every_message_in_troubleshooting_is_one_of_the_code(message: str) -> None:
    if message.startswith((*FOREIGN, "snakemake ")):
        return
    for part in (part.strip() for part in message.split("…")):
        assert part in code(), f"no message holds {part!r}"


def numbers_of(content: Any) -> Iterator[float]:
    """Every number of a measurement, at any depth."""
    if isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            yield from numbers_of(value)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield abs(float(content))


def means_over_seeds(twins: dict[str, Any]) -> Iterator[float]:
    """Means of what the three drawn data sets gave: macro-F1, and F1 of both rescued classes together."""
    for kind in ("focal", "cross_entropy"):
        seeds = [entry["scores"] for name, entry in twins[kind].items() if name.startswith("seed")]
        for part in ("out_of_fold", "test"):
            for way in seeds[0][part]:
                entries = [scores[part][way] for scores in seeds]
                yield sum(entry["macro_f1"] for entry in entries) / len(entries)
                yield sum(entry["PC"] + entry["PLY"] for entry in entries) / len(entries)


def measured(file: Path) -> list[float]:
    """Every number of a file of measurements."""
    if file.suffix == ".csv":
        cells = [cell for row in csv.reader(file.read_text().splitlines()) for cell in row]
        return [abs(float(cell)) for cell in cells if re.fullmatch(r"-?\d+\.?\d*", cell)]
    content = json.loads(file.read_text())
    means = list(means_over_seeds(content["twins"])) if file.name == "refine.json" else []
    return [*numbers_of(content), *means]


def is_measured(text: str, exponent: str, values: list[float]) -> bool:
    """Whether a number is one of the values, or a hundred times it, rounded as the number is."""
    tolerance = 0.5001 * 10.0 ** -len(text.split(".")[1]) * 10.0 ** int(exponent or 0)
    wanted = float(text.replace(",", "")) * 10.0 ** int(exponent or 0)
    return any(abs(value * scale - wanted) <= tolerance for value in values for scale in (1, 100))


SECTIONS = re.split(r"^## ", (DOCS / "benchmarks.md").read_text(), flags=re.M)[1:]


@pytest.mark.parametrize("section", SECTIONS, ids=[section.splitlines()[0] for section in SECTIONS])
def test_the_figures_in_tables_are_those_that_were_measured(section: str) -> None:
    files = re.findall(r"\(\.\./benchmarks/([\w.]+\.(?:json|csv))\)", section)
    values = [value for file in files for value in measured(REPOSITORY / "benchmarks" / file)]
    for line in section.splitlines():
        if line.startswith("|"):
            for text, exponent in re.findall(r"(?<![\w.])(\d[\d,]*\.\d+)(?:e(-\d+))?", line):
                assert is_measured(text, exponent, values), f"{text}: not in {', '.join(files)}: {line}"


def test_the_scores_on_the_first_page_are_those_of_the_benchmarks() -> None:
    table = (DOCS / "benchmarks.md").read_text()
    for score in re.findall(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", (REPOSITORY / "README.md").read_text()):
        assert score in table


@pytest.mark.parametrize(
    ("tool", "file"), [("mkdocs", "requirements-docs.txt"), ("cyclonedx-bom", "requirements-sbom.txt")]
)
def test_tools_with_environments_of_their_own_are_pinned(tool: str, file: str) -> None:
    lines = (REPOSITORY / file).read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines if not line.startswith("#"))
    assert any(line.startswith(f"{tool}==") for line in lines)
