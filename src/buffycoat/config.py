"""The whole config.yaml as one type, composed from the stages' settings; an unknown key is an error."""

from __future__ import annotations

import difflib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, Field, ValidationError

from buffycoat.bundle.settings import Bundle
from buffycoat.classify.settings import Classify
from buffycoat.core.errors import InputError
from buffycoat.core.provenance import ROOT
from buffycoat.core.settings import Settings
from buffycoat.crop.settings import Crop
from buffycoat.embed.settings import Embed
from buffycoat.index.lists import rows_digest
from buffycoat.index.settings import Index
from buffycoat.measure.settings import Measure
from buffycoat.partition.settings import Partition
from buffycoat.refine.settings import Refine
from buffycoat.report.settings import Report
from buffycoat.restore.settings import Restore
from buffycoat.review.settings import Review
from buffycoat.simulate.settings import Simulate

RESULTS = "results/"
"""Where the workflow writes; what lies there it makes itself."""


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
    measure: Measure = Measure()
    refine: Refine = Refine()
    review: Review = Review()
    report: Report = Report()
    bundle: Bundle = Bundle()


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


def keep_warnings_for_trainings() -> None:
    """Ignore SIGUSR1 in Snakemake and its shells, so that it reaches the trainings, which listen by themselves.

    Slurm sends its warning before a time limit or a preemption to every process of a job step. Snakemake and the shells
    would end of it, and Slurm would kill the training with them before it has stored its state.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def named_sources(config: Config) -> dict[str, list[str]]:
    """Return, by rule, the files and folders that the configuration names and the workflow does not make."""
    listing = config.index.make_index
    named = {
        "index.make_index": [*listing.lists(), *listing.folders()],
        "index.make_labels.test_labels": config.index.make_labels.answers(),
        "crop.train_segmenter.masks": list(config.crop.train_segmenter.masks),
    }
    return {key: [name for name in names if not name.startswith(RESULTS)] for key, names in named.items()}


def lists_are_drawn(config: Config) -> bool:
    """Return whether the workflow makes the lists of images itself (`draw_smears`)."""
    return config.index.make_index.lists()[0].startswith(RESULTS)


def listed_rows(config: Config) -> str:
    """Return what tells `make_index` that the lists name other images: a digest of their rows without the labels.

    Drawn lists do not exist before the workflow runs: these Snakemake watches as it does other files.
    """
    return "made by draw_smears" if lists_are_drawn(config) else rows_digest(config.index.make_index)


def missing_sources(config: Config) -> list[str]:
    """Return a clause for each rule whose configured files neither exist nor are made by the workflow."""
    clauses = []
    for key, names in named_sources(config).items():
        absent = [name for name in names if not os.path.exists(name)]
        if absent:
            clauses.append(f"{key}: no such file: {', '.join(absent)}")
    return clauses


def sources_of_tomorrow(config: Config) -> list[str]:
    """Return a clause for each configured file whose time lies ahead: what is made from it would always seem too old.

    Snakemake then deletes what a step has made. A minute is allowed, for clocks on a network differ.
    """
    latest = time.time() + 60
    clauses = []
    for key, names in named_sources(config).items():
        for name in names:
            if os.path.exists(name) and os.path.getmtime(name) > latest:
                when = time.strftime("%Y-%m-%d %H:%M", time.localtime(os.path.getmtime(name)))
                clauses.append(f"{key}: {name}: its time lies in the future ({when}); see to the clock, then touch it")
    return clauses


def check_run(raw: Mapping[str, Any]) -> Config:
    """Return the checked settings of a run.

    Raises InputError where they are wrong, or name files that do not exist or whose time lies in the future.
    """
    config = check_config(raw)
    absent = missing_sources(config)
    if absent:
        raise InputError(f"config: {'; '.join(absent)}: correct the path, or put the data there")
    ahead = sources_of_tomorrow(config)
    if ahead:
        raise InputError(f"config: {'; '.join(ahead)}")
    return config
