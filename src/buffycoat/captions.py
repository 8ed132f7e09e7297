"""How `snakemake --report` shows an output of the workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def shown_as(path: str, pattern: str | None) -> dict[str, Any]:
    """Return how `snakemake --report` shows an output: caption, label, and of a folder the files of a pattern."""
    name = Path(path).name
    return {
        "caption": f"../report/{Path(path).stem}.rst",
        "labels": {"file": "{file}" if pattern else name},
        "patterns": [pattern] if pattern else [],
    }
