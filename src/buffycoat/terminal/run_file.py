"""The file that `buffycoat init` writes: the data, the preset, and the columns that have other names than the usual."""

from __future__ import annotations

import logging
import os
import shlex
from pathlib import Path

import yaml

from buffycoat.config import Config, read_layers, settle_data
from buffycoat.core.files import whole_file
from buffycoat.index.lists import kind_of
from buffycoat.index.overview import guess_columns

log = logging.getLogger("buffycoat")
TEMPLATE = """\
# Written by `buffycoat init`. Run it by `buffycoat run {name}`, or `snakemake --cores all --configfile {name}`.
preset: {preset} # demo | laptop | wbcbench | paper, or the path of a YAML file
{data}
# Everything else is optional, and replaces what the preset says. docs/configuration.md has every setting.
{index}
#   make_labels:
#     label_aliases: {{neutrophil: SNE}} # your spelling: the class
#   make_folds:
#     folds: 5
# crop:
#   crop_cells:
#     window_px: {window_px}                   # side of the square around a cell, in pixels of your images
# classify:
#   recipe: {recipe}               # docs/method.md compares the recipes
"""
NO_COLUMNS = """\
# index:
#   columns: {label: diagnosis, group: patient} # of a table: columns that have other names than label and group"""


def understood(preset: str, data: str, given: dict[str, str | None]) -> tuple[Config, dict[str, str]]:
    """Return the configuration of data, and the names of columns that are written down: given, or guessed and said."""
    columns = {what: name for what, name in given.items() if name}
    raw = {"preset": preset, "data": data, "index": {"columns": columns}}
    config = settle_data(read_layers(raw)[0], raw, [])
    if kind_of(str(config.data)) != "table":
        return config, columns
    guessed = guess_columns(Path(str(config.data)), config.index.columns, config.index.make_folds.folds)
    for what, name in guessed.items():
        log.info("column '%s' is taken for %s; name another one by --%s-column", name, what, what)
    raw = {**raw, "index": {"columns": {**columns, **guessed}}}
    return settle_data(read_layers(raw)[0], raw, []), {**columns, **guessed}


def write_template(out: Path, config: Config, columns: dict[str, str]) -> None:
    """Write the file that runs the data, with the names of columns that differ from the usual ones."""
    data = str(config.data)
    # A file in another folder may be run from there, or from anywhere: it names the place from the root on.
    place = data if out.resolve().parent == Path.cwd().resolve() else os.path.abspath(data)
    named = yaml.safe_dump({"data": place}, allow_unicode=True, width=10**6)
    flow = yaml.safe_dump(columns, allow_unicode=True, width=10**6, default_flow_style=True).strip()
    with whole_file(out) as partial:
        text = TEMPLATE.format(
            name=shlex.quote(str(out)), preset=config.preset, data=named, window_px=config.crop.crop_cells.window_px,
            recipe=config.classify.recipe, index=f"index:\n  columns: {flow}" if columns else NO_COLUMNS,
        )  # fmt: skip
        partial.write_text(text, encoding="utf-8")
