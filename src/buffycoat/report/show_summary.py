"""Prints where the report is and the macro-F1 before and after refinement: the last lines of `make demo`."""

from __future__ import annotations

from pathlib import Path

from buffycoat.core.files import read_json
from buffycoat.core.steps import run


def show_summary(*, summary: Path, report: Path) -> None:
    """Print the headline of a finished run."""
    print(f"\nreport: {report}")
    for part, entry in read_json(summary)["headline"].items():
        before, after = entry["before_refinement"], entry["after_refinement"]
        print(
            f"macro-F1, {part.replace('_', ' ')} ({before['images']} images):"
            f" {before['macro_f1']:.4f} [{before['low']:.3f}, {before['high']:.3f}] before refinement,"
            f" {after['macro_f1']:.4f} [{after['low']:.3f}, {after['high']:.3f}] after"
        )


if __name__ == "__main__":
    run(show_summary)
