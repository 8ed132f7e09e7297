"""The data set that the workflow draws itself: where it lies, and what every page made of it says."""

from __future__ import annotations

from pathlib import Path

SMEARS = "results/0_simulate/smears"
"""The drawn data set, in WBCBench's form; the rule draw_smears makes it."""
NOTE = (
    "These cells are drawn, not photographed: every image and every patient is made up. The scores say that the chain"
    " works, and nothing about blood."
)
MODEL_NOTE = "This model learned drawn cells, not blood: what it says of real cells means nothing."


def is_drawn(data: str | Path | None) -> bool:
    """Return whether the setting `data` names the drawn data set."""
    return data is not None and Path(data) == Path(SMEARS)


def note_on(data: str | Path | None) -> str:
    """Return what a page about these data says first; empty unless they are drawn."""
    return NOTE if is_drawn(data) else ""
