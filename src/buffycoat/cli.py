"""The command `buffycoat`: label new images, check a bundle, export a fold model."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from buffycoat.core.errors import InputError
from buffycoat.core.progress import Progress, start_logging

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
log = logging.getLogger("buffycoat")
BundleOption = Annotated[Path, typer.Option("--bundle", help="The folder that `snakemake bundle` wrote.")]


@app.callback()
def buffycoat() -> None:
    """Classify white blood cells with a bundle. Research use only: not a medical device."""


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
        bool, typer.Option(help="--no-exact: a few images come sooner; numbers may differ in the seventh digit.")
    ] = True,
    verbose: Annotated[bool, typer.Option(help="Show what every step logs.")] = False,
) -> None:
    """Label images: one row each, whatever happens; run again after an interruption, it continues.

    Exit status: 0 every image has a label; 3 some have none (their rows say why); 2 wrong input, nothing written.
    """
    from buffycoat import Predictor
    from buffycoat.bundle.inputs import listed

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
        progress.done += count
        typer.echo(progress.line(time.monotonic() - progress.started), err=True)

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
    from buffycoat.bundle.export_onnx import export_fold

    log.setLevel(logging.WARNING)
    typer.echo(export_fold(bundle, fold, out))


def main() -> None:
    """Run the command; a fault of the input is one line on standard error and exit status 2."""
    start_logging()
    try:
        app(prog_name="buffycoat")
    except InputError as problem:
        print(f"buffycoat: error: {problem}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
