"""Faults of the data: of each file, of labels, of repeated files; every fault is a status."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from buffycoat.core.progress import Progress
from buffycoat.data.images import MAX_PIXELS, ImageProblem, decode_bytes

MAX_BYTES = 200_000_000
"""Larger files are not read (status too_large): images of single cells are far smaller."""


@dataclass(frozen=True)
class Finding:
    """What was found out about one file; sizes in pixels, None where there are none."""

    status: str = "ok"
    reason: str = ""
    width: int | None = None
    height: int | None = None
    sha256: str | None = None


def inside_root(name: str, root: Path) -> bool:
    """Return whether `name`, with every link followed, is a path below `root`."""
    if "\x00" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        return False
    real_root = os.path.realpath(root)
    return os.path.realpath(root / name).startswith(real_root.rstrip(os.sep) + os.sep)


def check_file(name: str, root: Path, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> Finding:
    """Return what there is to know about file `name` below `root`; never raises for a fault of the file."""
    if not inside_root(name, root):
        return Finding("outside_root", f"the path leaves the folder {root}; list files below it only")
    path = root / name
    try:
        if not path.is_file():
            return Finding("missing", "no such file" if not path.exists() else "not a file")
        size = path.stat().st_size
        if size > max_bytes:
            return Finding("too_large", f"{size / 1e6:.0f} MB; at most {max_bytes / 1e6:.0f} MB are read")
        data = path.read_bytes()
    except OSError as problem:
        return Finding("unreadable", f"the file cannot be read: {problem.strerror}")
    digest = hashlib.sha256(data).hexdigest()
    try:
        pixels = decode_bytes(data, max_pixels)
    except ImageProblem as problem:
        return Finding(problem.status, str(problem), sha256=digest)
    return Finding(width=pixels.shape[1], height=pixels.shape[0], sha256=digest)


def check_files(names: list[str], root: Path, threads: int) -> list[Finding]:
    """Return the findings of all files in order; the same whatever the number of threads."""
    progress = Progress("make_index", len(names))

    def check(name: str) -> Finding:
        return check_file(name, root)

    findings = []
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for finding in pool.map(check, names, chunksize=16):
            findings.append(finding)
            progress.step()
    return findings
