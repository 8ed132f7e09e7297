"""Portions of a table's rows, each worked on by a job of its own, and their tables put together again."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from buffycoat.errors import InputError
from buffycoat.tables.schema import require_same_keys

ALL = "1/1"
"""The portion that is all of the rows."""


def rows_of_portion(frame: pd.DataFrame, portion: str, unit: int = 1) -> pd.DataFrame:
    """Return the rows of portion 'k/n', the k-th of n, k from 1; portions follow each other and leave nothing out.

    They begin at multiples of `unit` rows, so that rows that are worked on together stay together whatever n is. With
    more portions than units some are empty. Raises InputError where `portion` is not of this form.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", portion)
    number, portions = (int(text) for text in found.groups()) if found else (0, 0)
    if not 1 <= number <= portions:
        raise InputError(f"--portion {portion}: write it as k/n, the k-th of n, k from 1 to n")
    units = -(-len(frame) // unit)
    start, end = (unit * (units * place // portions) for place in (number - 1, number))
    return frame.iloc[start:end].reset_index(drop=True)


def gathered(frames: list[pd.DataFrame], ids: pd.Series, what: Path) -> pd.DataFrame:
    """Return the rows of the tables of all portions, in the order of `ids`; raises InputError where a row is missing.

    `what` is the table that is to be made of them.
    """
    frame = pd.concat(frames, ignore_index=True)
    require_same_keys(frame["image_id"], ids, f"{what}, from {len(frames)} portions")
    return frame.set_index("image_id").loc[ids].reset_index()
