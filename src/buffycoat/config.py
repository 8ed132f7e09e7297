"""The configuration of a run: code's defaults, below a preset, below the user's one file; an unknown key is an error.

Each layer replaces what it names: dictionaries are merged key by key, lists are replaced.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, Field, ValidationError

from buffycoat.bundle.settings import Bundle
from buffycoat.classify.settings import Classify
from buffycoat.core.environment import find_gpu
from buffycoat.core.errors import InputError
from buffycoat.core.files import find_file, line_of_key, located, read_yaml
from buffycoat.core.provenance import PACKAGE, ROOT
from buffycoat.core.settings import RUNTIME_VARIABLE, Runtime, Settings, Statistics, merge
from buffycoat.crop.settings import Crop
from buffycoat.embed.settings import Embed
from buffycoat.index.listed import listed_inside
from buffycoat.index.lists import SMEARS, folders_of, handed_digest, kind_of, lists_of
from buffycoat.index.settings import Columns, Index
from buffycoat.measure.settings import Measure
from buffycoat.partition.settings import Partition
from buffycoat.refine.settings import Refine
from buffycoat.report.settings import Report
from buffycoat.restore.settings import Restore
from buffycoat.review.settings import Review
from buffycoat.simulate.settings import Simulate

log = logging.getLogger("buffycoat")

PRESETS = ("demo", "laptop", "wbcbench", "paper")
"""Names of the files in workflow/presets/."""
CHOSEN = "BUFFYCOAT_PRESET"
"""Environment variable that names the preset of files that name none: a run hands its choice on to its jobs."""
PATHS = ("index.make_index.root", "index.make_labels.test_labels", "crop.train_segmenter.masks",
         "crop.crop_cells.weights", "classify.train_fold.weights", "embed.embed_cells.weights")  # fmt: skip
"""Settings besides `data` that name files and folders."""
RESULTS = "results/"
"""Where the workflow writes; what lies there it makes itself."""


class Config(Settings):
    """All settings of the workflow: one section per stage, in it one per rule."""

    preset: str | None = Field(
        default=None,
        description="`demo`, `laptop`, `wbcbench`, `paper`, or the path of a YAML file of settings. A file that names"
        " none gets `laptop` on a machine without a GPU, `wbcbench` on one with a GPU.",
    )
    data: str | None = Field(
        default=None,
        pattern=r"^[^{}<>]+$",  # these are wildcards and variables to Snakemake
        description="The images: a table (.csv, .tsv, .xlsx or .parquet), a folder that holds one folder of images per"
        " class, boxes on fields (Pascal VOC, YOLO, COCO), Parquet with images inside (a folder or a pattern), or"
        " WBCBench's folder. A path from the working directory or else from its own file. `demo` draws its own.",
    )
    seed: int = Field(default=1, ge=0, description="Start of all random numbers: same seed and machine, same result.")
    runtime: Runtime = Runtime()
    statistics: Statistics = Statistics()
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
        said = error["msg"].removeprefix("Value error, ")
        return f"{name}: {said[:1].lower()}{said[1:]}{given}"
    holder = _type_at(keys)
    known = list(holder.model_fields) if holder else []
    near = difflib.get_close_matches(str(keys[-1]), known, 1)
    return f"{name}: unknown setting" + (
        f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(known)}"
    )


def _place_of(keys: Sequence[int | str], files: Sequence[Path], value: Any = None) -> str:
    """Return ` (FILE, line N)` for the last file that holds the most of `keys`; empty where none does.

    Empty too where it holds all of them with another value than `value`, which then is from the command line.
    """
    found = [(*line_of_key(path, keys), path) for path in files]
    depth, line, path = max(reversed(found), key=lambda entry: entry[0], default=(0, 0, Path()))
    if value is not None and depth == len(keys):
        here: Any = read_yaml(path)
        for key in keys:
            here = here[key] if isinstance(here, Mapping) else here
        if not isinstance(here, Mapping | list) and here != value:
            return ""
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f" ({shown}, line {line})" if depth else ""


def check_config(raw: Mapping[str, Any], files: Sequence[Path] = ()) -> Config:
    """Return the typed configuration of all layers together, which were read from `files`, lowest first.

    Raises InputError with one line that names each wrong key, with file and line where it stands in a file.
    """
    try:
        return Config.model_validate(dict(raw))
    except ValidationError as problem:
        errors = [cast("Mapping[str, Any]", error) for error in problem.errors(include_url=False)]
        clauses = [_describe(error) + _place_of(error["loc"], files, error["input"]) for error in errors]
        raise InputError("config: " + "; ".join(clauses)) from None


def step_settings() -> dict[str, type[Settings]]:
    """Return the settings class of every step that has settings, by `<stage>.<rule>`, in the order of the stages."""
    held = {
        f"{stage}.{rule}": field.annotation
        for stage, section in Config.model_fields.items()
        for rule, field in getattr(section.annotation, "model_fields", {}).items()
    }
    # The names of columns are one setting of two steps.
    return {
        key: kind
        for key, kind in held.items()
        if isinstance(kind, type) and issubclass(kind, Settings) and kind is not Columns
    }


def settings_json(config: Config, key: str, **changed: Any) -> str:
    """Return the settings of one rule, named `<stage>.<rule>`, some of them changed, as canonical JSON."""
    section: Any = config
    for part in key.split("."):
        section = getattr(section, part)
    return json.dumps({**section.model_dump(mode="json"), **changed}, sort_keys=True)


def science_json(config: Config) -> str:
    """Return all settings but those of the machine as canonical JSON: what the report and the bundle tell of a run."""
    return json.dumps(config.model_dump(mode="json", exclude={"runtime"}), sort_keys=True)


def hand_on_runtime(config: Config) -> None:
    """Give the settings of the machine to the steps by an environment variable: in no rule, and so counted nowhere.

    A job on another machine has a Snakemake of its own, which reads the same files and sets it there.
    """
    os.environ[RUNTIME_VARIABLE] = json.dumps(config.runtime.model_dump(mode="json"), sort_keys=True)


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
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def workflow_folder() -> Path:
    """Return the folder of workflow/, envs/ and config.yaml, the clone's or in a wheel the package's; or InputError."""
    for folder in (ROOT / PACKAGE, ROOT.parent):
        if (folder / "workflow" / "presets").is_dir():
            return folder
    raise InputError(f"{ROOT}: no workflow here; install buffycoat again, or run from a clone (make setup)")


def default_preset() -> tuple[str, str]:
    """Return the preset of a file that names none, and why."""
    if chosen := os.environ.get(CHOSEN):
        return chosen, f"{CHOSEN} names it"
    gpu = find_gpu()
    return ("wbcbench", f"this machine has a GPU: {gpu}") if gpu else ("laptop", "this machine shows no GPU")


def settle_paths(config: Config, files: Sequence[Path]) -> Config:
    """Return the configuration with the paths that it names besides its data, found as `located` finds them."""
    for key in PATHS:
        stage, rule, name = key.split(".")
        part = getattr(getattr(config, stage), rule)
        if value := getattr(part, name):
            named = value if isinstance(value, tuple) else (value,)
            made = ["embedded", *(path for path in named if path.startswith(RESULTS))]
            found = [path if path in made else located(path, files) for path in named]
            part = part.model_copy(update={name: tuple(found) if isinstance(value, tuple) else found[0]})
            config = config.model_copy(update={stage: getattr(config, stage).model_copy(update={rule: part})})
    return config


def preset_file(name: object, files: Sequence[Path]) -> Path:
    """Return the file of a preset, by its name or path; raises InputError where there is none."""
    if name in PRESETS:
        return workflow_folder() / "workflow" / "presets" / f"{name}.yaml"
    if isinstance(name, str) and name.endswith((".yaml", ".yml")):
        if (path := find_file(name, files)).exists():
            return path
        raise InputError(f"config: preset: no such file: {name}{_place_of(['preset'], files)}")
    near = difflib.get_close_matches(str(name), PRESETS, 1)
    advice = f"; did you mean {near[0]!r}?" if near else ", nor the path of a YAML file"
    raise InputError(f"config: preset: {name!r} is none of {', '.join(PRESETS)}{advice}{_place_of(['preset'], files)}")


def read_layers(user: Mapping[str, Any], files: Sequence[Path] = ()) -> tuple[Config, Path]:
    """Return the configuration of the preset below what the user wrote in `files`, and the file of the preset.

    Raises InputError where a layer is wrong, or names data that would not be used.
    """
    name = user.get("preset")
    if name is None:
        name, reason = default_preset()
        log.info("preset %s, because none is named and %s", name, reason)
    path = preset_file(name, files)
    if path.resolve() in [file.resolve() for file in files]:
        raise InputError(f"config: {path} cannot be its own preset")
    below = read_yaml(path)
    if "preset" in below:
        raise InputError(f"{path}: a preset cannot name another preset; remove `preset` from it")
    if name == "demo" and "data" in user:
        raise InputError(
            f"config: `preset: demo` draws its own cells and would not use data: {user['data']}; remove `preset`, or"
            f" set `preset: laptop`{_place_of(['data'], files)}"
        )
    config = check_config({**merge(below, user), "preset": name}, [path, *files])
    if config.data is None:
        raise InputError("config: no data: name your images (`data: cells.csv`), or set `preset: demo`")
    return config, path


def settle_data(config: Config, user: Mapping[str, Any], files: Sequence[Path]) -> Config:
    """Return the configuration with the path of its data, and with the groups that such data can have.

    Raises InputError where the data are not there or not accepted, or where a setting names a file for other data.
    """
    data = str(find_file(str(config.data), files)) if config.data != SMEARS else SMEARS
    config = settle_paths(config, files)
    labels = config.index.make_labels
    try:
        kind = kind_of(data)
    except InputError as problem:
        raise InputError(f"{problem}{_place_of(['data'], files, config.data)}") from None
    pattern, settings = config.index.columns.pattern, config.index.make_index
    meant = {
        "make_index.root": (settings.root, kind in ("table", "boxes"), "tables and boxes"),
        "make_index.test_values": (settings.test_values != "auto", pattern or kind in ("table", "shards"), "lists"),
        "columns.pattern": (pattern, kind == "class folders", "class folders"),
        "make_labels.group_pattern": (labels.group_pattern, kind in ("table", "boxes"), "boxes on fields"),
        "make_labels.test_labels": (labels.test_labels, kind == "wbcbench", "WBCBench's folder"),
    }
    for key, (given, fits, what) in meant.items():
        if given and not fits:
            raise InputError(f"config: index.{key} is for {what}, not for {data}; remove it")
    named = merge({"index": {"make_labels": {}}}, user)["index"]["make_labels"]
    if kind != "wbcbench" and labels.groups == "pseudo_patients" and "groups" not in named:
        log.info("index.make_labels.groups: given, because the preset's pseudo_patients are for WBCBench's folder")
        labels = labels.model_copy(update={"groups": "given"})
    index = config.index.model_copy(update={"make_labels": labels})
    return config.model_copy(update={"data": data, "index": index})


def named_sources(config: Config) -> dict[str, list[str]]:
    """Return, by setting, the files and folders that the configuration names and the workflow does not make."""
    data, root = str(config.data), config.index.make_index.root
    named = {
        "data": [*lists_of(data), *folders_of(data)],
        "index.make_index.root": [root] if root else [],
        "index.make_labels.test_labels": config.index.make_labels.answers(),
        "crop.train_segmenter.masks": list(config.crop.train_segmenter.masks),
    }
    return {key: [name for name in names if not name.startswith(RESULTS)] for key, names in named.items()}


def lists_are_drawn(config: Config) -> bool:
    """Return whether the workflow makes the lists of images itself (`draw_smears`)."""
    return config.data == SMEARS


def listed_rows(config: Config) -> str:
    """Return what tells `make_index` that the lists name other images: a digest of their rows without the labels.

    Drawn lists do not exist before the workflow runs: these Snakemake watches as it does other files.
    """
    return "made by draw_smears" if lists_are_drawn(config) else handed_digest(str(config.data), config.index.columns)


def missing_sources(config: Config) -> list[str]:
    """Return a clause for each setting whose files neither exist nor are made by the workflow."""
    clauses = []
    for key, names in named_sources(config).items():
        absent = [name for name in names if not os.path.exists(name)]
        if absent:
            clauses.append(f"{key}: no such file: {', '.join(map(os.path.abspath, absent))}")
    return clauses


def missing_weights(config: Config) -> list[str]:
    """Return a clause for each setting that names weights which are neither there nor made by the workflow."""
    crop, fold = config.crop.crop_cells, config.classify.train_fold
    named = {
        "crop.crop_cells.weights": crop.weights if crop.chosen_method() == "cellpose" else None,
        "classify.train_fold.weights": fold.weights if fold.weights != "embedded" else None,
        "embed.embed_cells.weights": config.embed.embed_cells.weights,
    }
    absent = {key: name for key, name in named.items() if name and not os.path.exists(name)}
    return [f"{key}: no {name}" for key, name in absent.items() if not name.startswith(RESULTS)]


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


def check_run(raw: Mapping[str, Any], files: Sequence[Path] = ()) -> Config:
    """Return the checked settings of a run from what the user wrote, merged from `files` and the command line.

    Raises InputError where they are wrong, or name files that do not exist, are not used, or are of the future.
    """
    folder = (workflow_folder() / "workflow" / "presets").resolve()
    presets = [file for file in files if file.resolve().parent == folder]
    if presets:
        raise InputError(f"config: {presets[0]} is a preset: write `preset: {presets[0].stem}` into your own file")
    user = {str(key): value for key, value in raw.items() if value is not None}
    config, preset = read_layers(user, files)
    config = settle_data(config, user, [preset, *files])
    if absent := missing_sources(config):
        raise InputError(f"config: {'; '.join(absent)}: correct the path, or put the data there")
    if absent := missing_weights(config):
        advice = "put the weights there (docs/weights.md), or set `preset: laptop`, which needs none"
        raise InputError(f"config: {'; '.join(absent)}: {advice}")
    if ahead := sources_of_tomorrow(config):
        raise InputError(f"config: {'; '.join(ahead)}")
    # Annotations that cannot be read, and boxes of one class alone, end the run before it begins.
    listed_inside(str(config.data), config.index)
    return config


def check_workflow(raw: Mapping[str, Any], files: Sequence[str | Path], is_main_process: bool) -> Config:
    """Return the checked settings of a run, as `check_run` does, and note on standard error what was assumed.

    The jobs' own Snakemakes read the same files. They say nothing again, and keep to the preset that the run has
    chosen, for a job on another machine, with a GPU or without, must not choose another.
    """
    if is_main_process:
        log.setLevel(logging.INFO)
        log.addHandler(logging.StreamHandler())
    paths = [Path(file) for file in files]
    for path in paths:
        read_yaml(path)  # Snakemake has read it, and takes keys that stand in it twice
    config = check_run(raw, paths)
    os.environ[CHOSEN] = str(config.preset)
    return config
