"""What a run is made with: Python, operating system, hardware, and every installed package with its version."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

OWN = "buffycoat"


def version() -> str:
    """Return the version of this package, 'unknown' where it is used without having been installed."""
    try:
        return importlib.metadata.version(OWN)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def installed() -> dict[str, importlib.metadata.Distribution]:
    """Return every installed distribution by its canonical name, sorted; of two of one name the imported one."""
    found: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions():
        # A half-removed package leaves a folder without a name.
        if name := distribution.metadata["Name"]:
            found.setdefault(canonicalize_name(name), distribution)
    return dict(sorted(found.items()))


def system() -> dict[str, str]:
    """Return Python's version and the operating system's."""
    try:
        distribution = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        distribution = ""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.release()}",
        "distribution": distribution,
        "libc": " ".join(platform.libc_ver()),
    }


def processor() -> str:
    """Return the name of this machine's processor."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def hardware() -> dict[str, Any]:
    """Return the processor, its cores, the memory, and the GPUs that PyTorch sees with the CUDA it was built for."""
    import torch

    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    return {
        "processor": processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "gpus": [torch.cuda.get_device_name(number) for number in gpus],
        "cuda": torch.version.cuda,
    }
