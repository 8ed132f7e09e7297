"""What this machine has: Python, system, hardware, installed packages, and models in the hub's local cache."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from buffycoat.core.errors import InputError

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


def cores() -> int:
    """Return the processor cores that this process may use."""
    # Only Linux tells which cores a container or a queue has left to the process.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def whole_folder(folder: Path, files: tuple[str, ...], key: str, layout: str) -> Path:
    """Return the folder if it holds all `files`; raises InputError that names the setting `key` and what is absent."""
    if absent := [file for file in files if not (folder / file).is_file()]:
        raise InputError(
            f"{key}: {folder}: no {' and no '.join(absent)}; a folder in {layout} hub layout holds"
            f" {' and '.join(files)}"
        )
    return folder


def cached_folder(place: str, files: tuple[str, ...], key: str, instead: str) -> Path:
    """Return the folder of the local cache that holds `files` of `place`, which is OWNER/NAME[@REVISION].

    Raises InputError that names the setting `key` and says what to fetch, or what to set to a folder `instead`.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HFValidationError

    owner_and_name, _, revision = place.partition("@")
    try:
        found = [try_to_load_from_cache(owner_and_name, file, revision=revision or None) for file in files]
    except HFValidationError as problem:
        raise InputError(f"{key}: hf-hub:{place}: {problem}") from None
    if not all(isinstance(file, str) for file in found):
        wanted = f"{owner_and_name} {' '.join(files)}" + (f" --revision {revision}" if revision else "")
        raise InputError(
            f"{key}: hf-hub:{place} is not in the cache {HF_HUB_CACHE}, and a run downloads nothing: fetch it on a"
            f" machine with a network by `hf download {wanted}`, or put {' and '.join(files)} of"
            f" huggingface.co/{owner_and_name} into a folder and set {instead}"
        )
    return Path(str(found[0])).parent


def stay_offline() -> None:
    """Forbid this process every download, whatever a library would like to look up."""
    from huggingface_hub import constants

    os.environ["HF_HUB_OFFLINE"] = "1"
    # Read when huggingface_hub is imported, so too late for a library that has been imported before.
    constants.HF_HUB_OFFLINE = True


def find_gpu() -> str | None:
    """Return what shows that this machine has a GPU, or None; quick, and so without torch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return None
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return "/dev/nvidia*"
    windows = os.path.exists("/dev/dxg") and shutil.which("nvidia-smi")
    return "/dev/dxg and nvidia-smi" if windows else None
