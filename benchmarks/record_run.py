"""Adds one finished run of the workflow to benchmarks/runs.json: command, machine, seconds, memory, scores.

    python -m benchmarks.record_run --name demo --command "make demo" --wall-s 401

Seconds and memory come from Snakemake's benchmark files; the largest process counts as the peak.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.machine import machine
from buffycoat.core.files import read_json, write_json

RUNS = Path(__file__).parent / "runs.json"


def stage_costs(results: Path) -> tuple[dict[str, float], float]:
    """Return seconds of work per stage (its jobs added up) and the largest resident set, MiB, of any job."""
    seconds: dict[str, float] = {}
    peak = 0.0
    for file in sorted(results.rglob("benchmarks/**/*.tsv")):
        # What gathers the portions of a stage writes to benchmarks/<stage>/.
        stage = next(part for part in file.relative_to(results).parts if part != "benchmarks")
        for row in csv.DictReader(file.open(), delimiter="\t"):
            seconds[stage] = round(seconds.get(stage, 0.0) + float(row["s"]), 1)
            if row["max_rss"] not in ("-", "NA"):
                peak = max(peak, float(row["max_rss"]))
    return dict(sorted(seconds.items())), round(peak)


def record(
    name: Annotated[str, typer.Option()],
    command: Annotated[str, typer.Option()],
    wall_s: Annotated[float, typer.Option(help="whole command, without installation")],
    results: Annotated[Path, typer.Option()] = Path("results"),
) -> None:
    """Write the run's entry, replacing an earlier one of the same name."""
    runs = {run["name"]: run for run in (read_json(RUNS) if RUNS.exists() else [])}
    seconds, peak = stage_costs(results)
    runs[name] = {
        "name": name,
        "command": command,
        "machine": machine(),
        "wall_s": wall_s,
        "job_seconds_per_stage": seconds,
        "peak_job_memory_mib": peak,
        "scores": read_json(results / "report" / "summary.json")["headline"],
    }
    write_json(list(runs.values()), RUNS)
    print(json.dumps(runs[name], indent=2))


if __name__ == "__main__":
    typer.run(record)
