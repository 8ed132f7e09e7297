"""The command `buffycoat`: look at data, run the workflow, label new images, check a bundle, export a fold model."""

from __future__ import annotations

import logging
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
from buffycoat.core.files import read_yaml
from buffycoat.core.progress import Progress, start_logging

if TYPE_CHECKING:
    from buffycoat.index.settings import Index

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


@app.command()
def init(
    data: Annotated[
        str, typer.Argument(help="A table, class folders, boxes on fields, Parquet with images, or WBCBench's folder.")
    ],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("my.yaml"),
    preset: Annotated[str | None, typer.Option(help="demo, laptop, wbcbench, paper, or a path.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    image_column: Annotated[str | None, typer.Option(help="Of a table: the column of the images' paths.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Of a table: the column of the labels.")] = None,
    split_column: Annotated[str | None, typer.Option(help="Of a table: what tells training from test.")] = None,
    group_column: Annotated[str | None, typer.Option(help="Of a table: the column of the patients.")] = None,
    pattern: Annotated[str | None, typer.Option(help="Of class folders, e.g. '<group>/<label>/<file>'.")] = None,
    sheet: Annotated[bool, typer.Option("--sheet", help="Write a page with images of each class beside it.")] = False,
) -> None:
    """Look at images, say what they are understood to be, and write the file that runs them.

    Exit status: 2 where nothing could be trained; the last line says why, and no file is written.
    """
    from buffycoat.config import default_preset, missing_weights
    from buffycoat.index.overview import describe, look_at
    from buffycoat.terminal.run_file import understood, write_template

    if out.is_dir():
        raise InputError(f"{out}: a folder; name a file with --out")
    page = out.with_suffix(".html")
    for file in (out, *([page] if sheet else [])):
        if file.exists() and not force:
            raise InputError(f"{file}: exists; name another file with --out, or overwrite it with --force")
    given = {"image": image_column, "label": label_column, "split": split_column, "group": group_column,
             "pattern": pattern}  # fmt: skip
    name, reason = (preset, "you named it") if preset else default_preset()
    config, columns = understood(name, data, given)
    if not preset and missing_weights(config):
        name, reason = "laptop", f"the weights that {name} needs are not here"
        config, columns = understood(name, data, given)
    crop = config.crop.crop_cells
    seen = look_at(str(config.data), config.index)
    lines = describe(seen, config.index.make_labels, crop.window_px, crop.size_px)
    typer.echo("\n".join(lines))
    typer.echo(f"preset: {name}, because {reason}")
    for clause in missing_weights(config):
        typer.echo(f"needed before it can run: {clause}")
    if seen.fault:
        raise InputError(seen.fault)
    if sheet:
        _write_sheet(str(config.data), config.index, lines, page)
    write_template(out, config, columns)
    typer.echo(f"written: {out}; next: buffycoat run {shlex.quote(str(out))}")


def _write_sheet(data: str, index: Index, lines: list[str], page: Path) -> None:
    """Write the page with some images of each class, and say so."""
    from buffycoat.index.contact_sheet import write_sheet

    write_sheet(data, index, lines, page)
    typer.echo(f"written: {page} with some images of each class: do they show what their class says?")


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

    Exit status: 0 every image has a label; 3 some have none (their rows say why); 4 the images are unlike those that
    the model learned from, so the labels should not be used; 2 wrong input, nothing written.
    """
    from buffycoat import Predictor
    from buffycoat.bundle.inputs import listed
    from buffycoat.bundle.predictor import require_result
    from buffycoat.bundle.summary import summary

    log.setLevel(logging.INFO if verbose else logging.WARNING)
    require_result(out)
    rows = listed(images, image_column)
    with Predictor(bundle, weights=parse_weights(weights), exact=exact) as predictor:
        manifest = predictor.models.manifest
        if manifest.note:
            typer.echo(manifest.note)
        with shown_progress(len(rows)) as told:
            table = predictor.predict_to(out, rows, told)
        verdict = predictor.verdict(table)
        typer.echo(summary(table, verdict, manifest, predictor.names, out))
    if verdict.verdict == "unlike":
        raise typer.Exit(4)
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
    if manifest.note:
        typer.echo(manifest.note)
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
