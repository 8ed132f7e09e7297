"""Tables for spreadsheets: CSV in which no text is taken for a formula."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from buffycoat.files import whole_file

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What makes a spreadsheet compute a cell instead of showing it (OWASP, CSV injection)."""


def disarmed(value: Any) -> Any:
    """Return a text that a spreadsheet would compute with an apostrophe before it; everything else as it is."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def quoting_of(texts: Iterable[Any]) -> Literal[0, 1]:
    """Return how a CSV of these texts must be quoted; Python's csv takes a lone carriage return for harmless."""
    lone = any(isinstance(text, str) and "\r" in text for text in texts)
    return csv.QUOTE_ALL if lone else csv.QUOTE_MINIMAL


def write_spreadsheet(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, UTF-8, text columns disarmed and numbers to six digits; gaps are empty cells."""
    texts = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])]
    safe = frame.assign(**{name: frame[name].map(disarmed) for name in texts})
    quoting = quoting_of(text for name in texts for text in safe[name])
    with whole_file(path) as partial:
        safe.to_csv(partial, index=False, float_format="%.6g", lineterminator="\n", quoting=quoting)
