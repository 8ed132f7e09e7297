"""Running single steps as Snakemake does: a process of its own, its options in text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).parent.parent.parent


def run_step(
    module: str, settings: Mapping[str, Any], before: Callable[[], None] | None = None, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run `python -m buffycoat.<module>`; `before` is called in the new process."""
    command = [sys.executable, "-m", f"buffycoat.{module}", "--settings", json.dumps(settings)]
    for name, value in options.items():
        values = value if isinstance(value, list) else [value]
        command += [f"--{name.replace('_', '-')}", *map(str, values)]
    return run_words(command, Path.cwd(), before)


def run_words(
    words: list[str], folder: Path, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a step's command, as Snakemake printed it, in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable if word == "python" else word for word in words]
    return subprocess.run(
        command, cwd=folder, env=environment, preexec_fn=before, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip


def one_line(shown: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that a failed step ends with; it must be an error of ours, and no traceback."""
    assert shown.returncode == 2, shown.stderr[-2000:]
    assert "Traceback" not in shown.stderr
    said = [line for line in shown.stderr.splitlines() if ": error: " in line]
    assert len(said) == 1 and shown.stderr.endswith(said[0] + "\n"), shown.stderr
    return said[0]


def picture(path: Path, seed: int, side: int = 48) -> Path:
    """Write a lossless picture of noise, another one for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)).save(path, "PNG")
    return path
