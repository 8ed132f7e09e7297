"""What an installation takes: benchmarks/installation.json.

    python -m benchmarks.installation [--ways] [--torch-index ADDRESS] [--pin torch==VERSION ...]

Sizes of the core and of each extra are summed over the packages that this Python's environment holds. With `--ways`
each way to install is tried in a folder of its own, from the registry that pip is set to, without pip's cache. `--pin`
takes other versions than requirements.txt from the index of torch for CPUs, where that has not the same.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from importlib.metadata import Distribution
from pathlib import Path
from typing import Annotated, Any

import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.machine import machine
from buffycoat.core.environment import EXTRAS, OWN, installed
from buffycoat.core.files import read_json, write_json
from buffycoat.terminal.doctor import requirements

HERE = Path(__file__).parent
OUT = HERE / "installation.json"
OF_A_GPU = ("cuda-", "nvidia-", "triton")
MB = 10**6


def closure(ranges: list[Requirement], packages: dict[str, Distribution]) -> set[str]:
    """Return the packages here that `ranges` brings along, itself included and buffycoat left out."""
    names: set[str] = set()
    past: set[tuple[str, frozenset[str]]] = set()
    waiting = [(canonicalize_name(line.name), frozenset(line.extras)) for line in ranges]
    while waiting:
        name, extras = waiting.pop()
        if name not in packages or name == OWN or (name, extras) in past:
            continue
        past.add((name, extras))
        names.add(name)
        for text in packages[name].requires or []:
            line = Requirement(text)
            if line.marker is None or any(line.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                waiting.append((canonicalize_name(line.name), frozenset(line.extras)))
    return names


def size(distribution: Distribution) -> int:
    """Return the bytes that a package's files take on the disk."""
    places = [Path(str(distribution.locate_file(file))) for file in distribution.files or []]
    return sum(place.stat().st_blocks * 512 for place in places if place.is_file())


def weigh() -> dict[str, dict[str, int]]:
    """Return packages and MB of the core, of its part that a GPU alone needs, and of each extra over the core."""
    packages, ranges = installed(), requirements()
    core = closure(ranges[""], packages)
    sets = {"core": core, "of the core, for a GPU alone": {name for name in core if name.startswith(OF_A_GPU)}}
    workflow = closure(ranges["workflow"], packages)
    for extra in EXTRAS:
        others = core | workflow if extra == "slurm" else core
        sets[extra] = closure(ranges[extra], packages) - others
    return {
        name: {"packages": len(names), "mb": round(sum(size(packages[one]) for one in names) / MB)}
        for name, names in sets.items()
    }


@contextmanager
def clone(pins: list[str]) -> Iterator[Path]:
    """Yield a fresh clone, some of its pins changed."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "buffycoat"
        subprocess.run(["git", "clone", "--quiet", str(HERE.parent), str(place)], check=True)
        file = place / "requirements.txt"
        text = file.read_text()
        for pin in pins:
            name = pin.partition("==")[0]
            text = re.sub(rf"^{re.escape(name)}==.*$", pin, text, flags=re.M)
        file.write_text(text)
        yield place


def run(command: list[str], folder: Path) -> None:
    """Run a command in a folder, apart from this Python's environment and pip's cache."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    subprocess.run(command, cwd=folder, env={**environment, "PIP_NO_CACHE_DIR": "1"}, check=True)


def measure(folder: Path, start: float) -> dict[str, Any]:
    """Return seconds since `start`, MB of a clone's environment, and the torch in it."""
    seconds = round(time.monotonic() - start)
    files = [path for path in (folder / ".venv").rglob("*") if path.is_file() and not path.is_symlink()]
    torch = "import importlib.metadata as m; print(m.version('torch'))"
    answer = subprocess.run([folder / ".venv/bin/python", "-c", torch], capture_output=True, text=True, check=True)
    used = sum(path.stat().st_blocks * 512 for path in files)
    return {"seconds": seconds, "mb": round(used / MB), "torch": answer.stdout.strip()}


def by_make(index: str, pins: list[str]) -> dict[str, Any]:
    """Install everything in a fresh clone by `make setup`."""
    with clone(pins) as folder:
        start = time.monotonic()
        run(["make", "--silent", "setup", *([f"TORCH_INDEX={index}"] if index else [])], folder)
        return measure(folder, start)


def by_wheel(index: str, pins: list[str]) -> dict[str, Any]:
    """Install the core alone: a wheel in an environment of its own."""
    with clone([]) as folder:
        pip = [sys.executable, "-m", "pip"]
        run([*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", "."], folder)
        start = time.monotonic()
        run([sys.executable, "-m", "venv", ".venv"], folder)
        install = [".venv/bin/python", "-m", "pip", "install", "--quiet"]
        if index:
            run([*install, "--no-deps", "--index-url", index, *(pins or ["torch", "torchvision"])], folder)
        run([*install, *map(str, (folder / "dist").glob("*.whl"))], folder)
        return measure(folder, start)


def main(
    ways: Annotated[bool, typer.Option("--ways", help="Install in each way, too: minutes, gigabytes.")] = False,
    torch_index: Annotated[str, typer.Option(help="An index with torch for CPUs alone.")] = "",
    pin: Annotated[list[str], typer.Option(help="NAME==VERSION from that index.")] = [],  # noqa: B006
) -> None:
    """Measure and write."""
    result = read_json(OUT) if OUT.exists() else {}
    command = "python -m benchmarks.installation" + " --ways" * ways
    result |= {"command": command, "date": date.today().isoformat(), "machine": machine(), "packages": weigh()}
    if ways:
        result["load_at_start"] = round(os.getloadavg()[0], 1)
        result["ways"] = {"make setup": by_make("", []), "wheel": by_wheel("", [])}
        if torch_index:
            result["ways"]["make setup TORCH_INDEX=..."] = by_make(torch_index, pin)
            result["ways"]["wheel after torch for CPUs"] = by_wheel(torch_index, pin)
            result["pins_for_cpus"] = pin
    write_json(result, OUT)


if __name__ == "__main__":
    typer.run(main)
