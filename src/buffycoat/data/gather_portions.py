"""Step `gather_portions`: portions of the images, each worked on by a job of its own, and their tables put together."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.core.steps import run
from buffycoat.data.images import relative_shard
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.embed import EMBEDDINGS
from buffycoat.data.tables.measure import MORPHOLOGY
from buffycoat.data.tables.partition import NOISE_SCORES
from buffycoat.data.tables.schema import Table

log = logging.getLogger("buffycoat")
BLOCK = 64
"""Rows that no portion divides: as many as cropping and embedding work on at once, so that the portions of all steps
hold the same images, and a job reads the shards of its own portion alone."""
ALL = "1-of-1"
"""The portion that is all of the rows."""
GATHERED: dict[str, Table] = {table.name: table for table in (CROPS, NOISE_SCORES, EMBEDDINGS, MORPHOLOGY)}
"""The tables that are made in portions, by name, which is also that of their files."""


def rows_of_portion(frame: pd.DataFrame, portion: str, unit: int = BLOCK) -> pd.DataFrame:
    """Return the rows of portion 'k-of-n', the k-th of n, k from 1; portions follow each other and leave nothing out.

    They begin at multiples of `unit` rows, so that rows that are worked on together stay together whatever n is. With
    more portions than units some are empty. Raises InputError where `portion` is not of this form.
    """
    match = re.fullmatch(r"(\d+)-of-(\d+)", portion)
    number, portions = (int(text) for text in match.groups()) if match else (0, 0)
    if not 1 <= number <= portions:
        raise InputError(f"--portion {portion}: write it as k-of-n, the k-th of n, k from 1 to n")
    units = -(-len(frame) // unit)
    start, end = (unit * (units * place // portions) for place in (number - 1, number))
    return frame.iloc[start:end].reset_index(drop=True)


def read_portion(kind: Table, portion: Path, table: Path) -> pd.DataFrame:
    """Return the rows of one portion; the shards they name, if any, as seen from the folder of `table`."""
    frame = kind.read(portion)
    if "shard" not in frame.columns:
        return frame
    names = {shard: relative_shard(portion.parent, shard, table) for shard in frame["shard"].unique()}
    return frame.assign(shard=frame["shard"].map(names))


def gather_portions(*, portions: list[Path], table: Path) -> None:
    """Write the rows of all portions, in the order of the files, as one table."""
    kind = GATHERED.get(table.stem)
    if kind is None:
        raise InputError(f"{table}: no table that is made in portions; these are: {', '.join(GATHERED)}")
    frames = [read_portion(kind, portion, table) for portion in portions]
    frame = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    log.info("%s: %d rows%s", table.name, len(frame), f" from {len(portions)} portions" if len(portions) > 1 else "")
    kind.write(frame, table)


if __name__ == "__main__":
    run(gather_portions)
