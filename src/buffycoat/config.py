"""The whole config.yaml as one type, composed from the stages' settings; an unknown key is an error."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, Field, ValidationError

from buffycoat.classify.settings import Classify
from buffycoat.crop.settings import Crop
from buffycoat.embed.settings import Embed
from buffycoat.errors import InputError
from buffycoat.index.settings import Index
from buffycoat.partition.settings import Partition
from buffycoat.provenance import ROOT
from buffycoat.refine.settings import Refine
from buffycoat.report.settings import Report
from buffycoat.restore.settings import Restore
from buffycoat.settings import Settings
from buffycoat.simulate.settings import Simulate


class Config(Settings):
    """All settings of the workflow: one section per stage, in it one per rule."""

    seed: int = Field(default=1, ge=0, description="Every random stream derives from it.")
    simulate: Simulate = Simulate()
    index: Index = Index()
    crop: Crop = Crop()
    partition: Partition = Partition()
    restore: Restore = Restore()
    classify: Classify = Classify()
    embed: Embed = Embed()
    refine: Refine = Refine()
    report: Report = Report()


def _type_at(keys: tuple[int | str, ...]) -> type[BaseModel] | None:
    """Return the settings class that holds the last of `keys`, or None where there is none."""
    here: Any = Config
    for key in keys[:-1]:
        fields = getattr(here, "model_fields", {})
        here = fields[key].annotation if key in fields else None
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None


def _describe(error: Mapping[str, Any]) -> str:
    """Return one of pydantic's findings as a clause for a person, with the nearest right key for a wrong one."""
    keys = error["loc"]
    name = ".".join(str(key) for key in keys)
    if error["type"] != "extra_forbidden":
        given = "" if isinstance(error["input"], dict) else f", found {error['input']!r}"
        return f"{name}: {error['msg'][:1].lower()}{error['msg'][1:]}{given}"
    holder = _type_at(keys)
    known = list(holder.model_fields) if holder else []
    near = difflib.get_close_matches(str(keys[-1]), known, 1)
    return f"{name}: unknown setting" + (
        f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(known)}"
    )


def check_config(raw: Mapping[str, Any]) -> Config:
    """Return the typed configuration; raises InputError with one line that names each wrong key."""
    try:
        return Config.model_validate(dict(raw))
    except ValidationError as problem:
        clauses = [_describe(cast("Mapping[str, Any]", error)) for error in problem.errors(include_url=False)]
        raise InputError("config: " + "; ".join(clauses)) from None


def step_names() -> list[str]:
    """Return `<stage>.<rule>` of every rule, in the order of the stages."""
    return [
        f"{stage}.{rule}"
        for stage, section in Config.model_fields.items()
        for rule, held in getattr(section.annotation, "model_fields", {}).items()
        if isinstance(held.annotation, type) and issubclass(held.annotation, Settings)
    ]


def settings_json(config: Config, key: str, **changed: Any) -> str:
    """Return the settings of one rule, named `<stage>.<rule>`, some of them changed, as canonical JSON."""
    section: Any = config
    for part in key.split("."):
        section = getattr(section, part)
    return json.dumps({**section.model_dump(mode="json"), **changed}, sort_keys=True)


def use_own_python() -> None:
    """Make `python` and `buffycoat` in a rule mean those that run Snakemake, also in an environment without them.

    An environment that Snakemake makes (`--sdm conda`) comes before our `python`, and has every package but ours.
    """
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # An installed copy stands among the packages of one Python, which another must not be sent to.
    if ROOT.name == "src":
        known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        if str(ROOT) not in known:
            os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *known])


def missing_sources(config: Config, made_by_workflow: str = "results/") -> list[str]:
    """Return a clause for each rule whose configured files neither exist nor are made by the workflow."""
    named = {
        "index.make_index": config.index.make_index.source_files(),
        "crop.train_segmenter.masks": list(config.crop.train_segmenter.masks),
    }
    clauses = []
    for key, names in named.items():
        absent = [name for name in names if not name.startswith(made_by_workflow) and not Path(name).exists()]
        if absent:
            clauses.append(f"{key}: no such file: {', '.join(absent)}")
    return clauses


def check_run(raw: Mapping[str, Any]) -> Config:
    """Return the checked settings of a run; raises InputError where they are wrong or name files that do not exist."""
    config = check_config(raw)
    absent = missing_sources(config)
    if absent:
        raise InputError(f"config: {'; '.join(absent)}: correct the path, or put the data there")
    return config
