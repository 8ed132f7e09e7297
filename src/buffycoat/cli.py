"""The command `buffycoat`: look at data, run the workflow, label new images, check a bundle, export a fold model."""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from buffycoat.core import environment
from buffycoat.core.errors import InputError
from buffycoat.core.files import read_yaml, whole_file
from buffycoat.core.progress import Progress, start_logging

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
log = logging.getLogger("buffycoat")
BundleOption = Annotated[
    Path, typer.Option("--bundle", help="The folder that `buffycoat run my.yaml -- pack_bundle` wrote.")
]


CORES = ("-c", "--cores", "-j", "--jobs", "-e", "--executor", "--profile", "--workflow-profile")
"""Options of Snakemake that say, or may say, how many cores are used."""
TAKE_FILES = ("-s", "--snakefile", "--profile", "--workflow-profile")
"""Options of Snakemake that a file follows, besides --configfile."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"buffycoat {environment.version()}")
        raise typer.Exit


@app.callback()
def buffycoat(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Classify white blood cells in smear images. Research use only: not a medical device."""


TEMPLATE = """\
# Written by `buffycoat init`. Run it by `buffycoat run {name}`, or `snakemake --cores all --configfile {name}`.
preset: {preset} # demo | laptop | wbcbench | paper, or the path of a YAML file
{data}
# Everything else is optional, and replaces what the preset says. docs/configuration.md has every setting.
# index:
#   columns: {{label: diagnosis, group: patient}} # of a table: columns that have other names than label and group
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


@app.command()
def init(
    data: Annotated[str, typer.Argument(help="A table, a folder of class folders, or WBCBench's folder.")],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("my.yaml"),
    preset: Annotated[str | None, typer.Option(help="demo, laptop, wbcbench, paper, or a path.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Look at images, say what they are understood to be, and write the file that runs them."""
    import yaml

    from buffycoat.config import default_preset, missing_weights, read_layers, settle_data
    from buffycoat.index.overview import describe, look_at

    if out.is_dir():
        raise InputError(f"{out}: a folder; name a file with --out")
    if out.exists() and not force:
        raise InputError(f"{out}: exists; name another file with --out, or overwrite it with --force")
    name, reason = (preset, "you named it") if preset else default_preset()
    config = settle_data(read_layers({"preset": name, "data": data})[0], {}, [])
    if not preset and missing_weights(config):
        name, reason = "laptop", f"the weights that {name} needs are not here"
        config = settle_data(read_layers({"preset": name, "data": data})[0], {}, [])
    crop, index = config.crop.crop_cells, config.index
    for line in describe(look_at(data, index), index.make_labels, crop.window_px, crop.size_px):
        typer.echo(line)
    typer.echo(f"preset: {name}, because {reason}")
    for clause in missing_weights(config):
        typer.echo(f"needed before it can run: {clause}")
    # A file in another folder may be run from there, or from anywhere: it names the place from the root on.
    place = data if out.resolve().parent == Path.cwd().resolve() else os.path.abspath(data)
    named = yaml.safe_dump({"data": place}, allow_unicode=True, width=10**6)
    with whole_file(out) as partial:
        text = TEMPLATE.format(
            name=shlex.quote(str(out)), preset=name, data=named, window_px=crop.window_px, recipe=config.classify.recipe
        )
        partial.write_text(text, encoding="utf-8")
    typer.echo(f"written: {out}; next: buffycoat run {shlex.quote(str(out))}")


def _has_option(words: list[str], names: tuple[str, ...]) -> bool:
    """Return whether one of Snakemake's options is among the words, also as `-c4` or `--cores=4`."""
    short = tuple(name for name in names if not name.startswith("--"))
    return any(
        word.split("=")[0] in names if word.startswith("--") else bool(short) and word.startswith(short)
        for word in words
    )


def _without_configfiles(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words without `--configfile` and what follows it, and the files that followed it."""
    left: list[str] = []
    files: list[str] = []
    inside = False
    for word in words:
        name, equals, file = word.partition("=")
        if name in ("--configfile", "--configfiles"):
            inside = not equals
            files += [file] if equals else []
        elif inside and not word.startswith("-"):
            files.append(word)
        else:
            inside = False
            left.append(word)
    return left, files


def _named_file(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the run's file in a list, an empty one where none is named, and the other words.

    Raises InputError where the first word is no such file, or a file stands behind Snakemake's options.
    """
    if not words or words[0].startswith("-"):
        left, _ = _without_configfiles(words)
        for before, word in zip(["", *left], left, strict=False):
            if word.endswith((".yaml", ".yml")) and not word.startswith("-") and before not in TAKE_FILES:
                raise InputError(f"{word}: name the run's file first: buffycoat run {shlex.quote(word)} -- ...")
        return [], words
    if Path(words[0]).is_dir():
        raise InputError(f"{words[0]}: a folder; write the run's file by: buffycoat init {shlex.quote(words[0])}")
    if not words[0].endswith((".yaml", ".yml", ".json")) and not Path(words[0]).is_file():
        raise InputError(f"{words[0]}: no such file; name the run's file first, then what goes to Snakemake")
    return words[:1], words[1:]


def _refuse_to_overwrite() -> None:
    """Raise InputError where the demo, which nobody named, would write over the results of a run of other data."""
    for file in sorted([*Path().glob("*.yaml"), *Path().glob("*.yml")]):
        try:
            content = read_yaml(file)
        except InputError:
            continue  # no file of ours
        if {"data", "preset"} & set(content):
            name = shlex.quote(str(file))
            demo = "buffycoat run -- --config preset=demo"
            raise InputError(f"no file is named, and {file} is here: buffycoat run {name}; the demo: {demo}")
    if Path("results/1_index").is_dir() and not Path("results/0_simulate").is_dir():
        raise InputError(
            "no file is named, and results/ is of other data than the demo's: name the run's file, or run the demo in"
            " another folder"
        )


def snakemake_command(words: list[str], verbose: bool = False) -> list[str]:
    """Return the command that runs the workflow here, from a configuration file (it may be absent) and options.

    `verbose` leaves the terminal to Snakemake, with the commands of all jobs and what these say.

    Raises InputError where the file is missing, broken or empty, or Snakemake is absent.
    """
    from buffycoat.config import workflow_folder

    slurm = any(re.split("[=/]", word)[-1] == "slurm" for word in words)
    environment.require(*environment.EXTRAS["workflow"], *environment.EXTRAS["slurm"] * slurm)
    named, words = _named_file(words)
    words, files = _without_configfiles(words)
    files = [*named, *files]
    settings = {word.partition("=")[0] for word in words if not word.startswith("-") and "=" in word}
    if not files and not settings & {"data", "preset"}:
        here = Path("config.yaml").exists()
        if not here:
            _refuse_to_overwrite()
        log.info("no file is named: %s", "config.yaml of this folder" if here else "the demo")
        files = ["config.yaml"] if here else []
        if not here:
            place = words.index("--config") + 1 if "--config" in words else len(words)
            words = [*words[:place], *([] if "--config" in words else ["--config"]), "preset=demo", *words[place:]]
    for file in files:
        # Snakemake's own message on a broken file names neither the file nor the line.
        if not read_yaml(Path(file)):
            raise InputError(f"{file}: names nothing; it needs a line `data: ...`, or `preset: demo`")
    cores = [] if _has_option(words, CORES) else ["--cores", "all"]
    snakefile = ["--snakefile", str(workflow_folder() / "workflow" / "Snakefile"), "--rerun-incomplete"]
    terminal = ["--printshellcmds", "--show-failed-logs"] if verbose else ["--logger", "buffycoat"]
    # Options come first: behind --configfile, targets would pass for files, and behind --logger for loggers.
    options = [*terminal, *snakefile, *cores, *words]
    return [sys.executable, "-m", "snakemake", *options, *(["--configfile", *files] if files else [])]


def call(command: list[str]) -> int:
    """Run a command to its end and return its exit status; it gets Ctrl-C by itself, and SIGTERM from here.

    After Ctrl-C the status is 130, as in a shell, unless the command has ended well all the same.
    """
    process = subprocess.Popen(command)
    interrupted = False

    def end(_: int, __: FrameType | None) -> None:
        process.terminate()

    before = signal.signal(signal.SIGTERM, end)
    try:
        while True:
            try:
                status = process.wait()
                if status and interrupted:
                    return 128 + signal.SIGINT
                return status if status >= 0 else 128 - status
            except KeyboardInterrupt:
                interrupted = True
    finally:
        signal.signal(signal.SIGTERM, before)


@app.command(context_settings={"ignore_unknown_options": True})
def run(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE] [-- SNAKEMAKE OPTIONS]", help="What init wrote; -n: a dry run."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show all that Snakemake and the steps say, with every command.")
    ] = False,
) -> None:
    """Run the workflow; results/ is written in the working directory. Without a file: config.yaml here, or the demo.

    Example: buffycoat run my.yaml -- --cores 4

    Uses all cores unless you say otherwise.

    Exit status: 0 all is made; 1 a job failed; 2 wrong input; 130 stopped by Ctrl-C.
    """
    status = call(snakemake_command(list(words or []), verbose))
    if status:
        raise typer.Exit(status)


def parse_weights(given: list[str]) -> dict[str, Path]:
    """Return places by setting of texts KEY=PATH; raises InputError on any other text."""
    found = {}
    for text in given:
        key, equals, place = text.partition("=")
        if not equals or not place:
            raise InputError(f"--weights {text}: write KEY=PATH, for instance embed.embed_cells.weights=weights/siglip")
        found[key] = Path(place)
    return found


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(help="Files, folders, or tables (.csv, .parquet) of images.")],
    bundle: BundleOption,
    out: Annotated[Path, typer.Option(help="The result: .parquet or .csv.")] = Path("predictions.parquet"),
    image_column: Annotated[str, typer.Option(help="In tables: the column of paths, relative to the table.")] = "image",
    weights: Annotated[list[str], typer.Option(help="KEY=PATH of weights that the bundle asks for.")] = [],  # noqa: B006
    exact: Annotated[
        bool, typer.Option(help="--no-exact: a few images come sooner; numbers may differ very slightly.")
    ] = True,
    verbose: Annotated[bool, typer.Option(help="Show what every step logs.")] = False,
) -> None:
    """Label new images with a trained model.

    Every image gets one row, whatever happens. After an interruption, the same command goes on.

    Exit status: 0 every image has a label; 3 some have none (their rows say why); 2 wrong input, nothing written.
    """
    from buffycoat import Predictor
    from buffycoat.bundle.predictor import listed

    log.setLevel(logging.INFO if verbose else logging.WARNING)
    rows = listed(images, image_column)
    with Predictor(bundle, weights=parse_weights(weights), exact=exact) as predictor:
        with shown_progress(len(rows)) as told:
            table = predictor.predict_to(out, rows, told)
    typer.echo(summary(table, out))
    if table["label"].isna().any():
        raise typer.Exit(3)


@contextmanager
def shown_progress(total: int) -> Iterator[Callable[[int], None]]:
    """Yield what counts images done: a bar on a terminal, a line per chunk in a log."""
    progress = Progress("predict", total)

    def line(count: int) -> None:
        typer.echo(progress.line(progress.count(count)), err=True)

    if not sys.stderr.isatty():
        yield line
        return
    with typer.progressbar(length=total, label="images", file=sys.stderr, show_pos=True) as bar:
        yield bar.update


def summary(table: pd.DataFrame, out: Path) -> str:
    """Return what a person wants to know first."""
    lost = table[table["label"].isna()]
    counts = ", ".join(f"{code} {count}" for code, count in table["label"].value_counts().items())
    lines = [
        f"{len(table)} images, {int(table['changed'].sum())} labels changed by refinement,"
        f" {int(table['suspect'].sum())} to look at (column suspect): {out}",
        f"labels: {counts or 'none'}",
    ]
    if not lost.empty:
        first = lost.iloc[0]
        lines.append(f"{len(lost)} without a label, first {first['image_id']}: {first['status']}, {first['reason']}")
    return "\n".join(lines)


@app.command()
def check(
    bundle: BundleOption,
    weights: Annotated[list[str], typer.Option(help="KEY=PATH of weights that the bundle asks for.")] = [],  # noqa: B006
) -> None:
    """Check that a bundle is whole, and that everything that it needs is here."""
    from buffycoat import Predictor

    log.setLevel(logging.WARNING)
    with Predictor(bundle, weights=parse_weights(weights)) as predictor:
        manifest = predictor.models.manifest
    typer.echo(
        f"{bundle}: whole. {manifest.name}, packed by buffycoat {manifest.buffycoat}; {len(manifest.folds)} folds of"
        f" {manifest.recipe}; classes {', '.join(manifest.classes)}"
    )


@app.command()
def export(
    bundle: BundleOption,
    fold: Annotated[int, typer.Option(help="Which fold's model.")] = 0,
    out: Annotated[Path, typer.Option(help="The ONNX file.")] = Path("model.onnx"),
) -> None:
    """Export one fold's model of branch A to ONNX, normalisation included; needs the extra `onnx`."""
    from buffycoat.bundle.models import export_fold

    log.setLevel(logging.WARNING)
    typer.echo(export_fold(bundle, fold, out))


@app.command()
def doctor() -> None:
    """Say what is installed and at hand, and for each thing missing the command that mends it. It takes some seconds.

    Exit status: 0 predict works, and a run where the extra `workflow` is installed; 1 not.
    """
    from buffycoat.terminal.doctor import conclusion, findings

    log.setLevel(logging.WARNING)
    report = []
    for finding in findings():
        report.append(finding)
        typer.echo(finding)
    typer.echo(conclusion(report))
    if any(finding.stops for finding in report):
        raise typer.Exit(1)


def main() -> None:
    """Run the command; a fault of the input is one line on standard error and exit status 2."""
    start_logging()
    try:
        with environment.name_extras():
            app(prog_name="buffycoat")
    except InputError as problem:
        print(f"buffycoat: error: {problem}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
