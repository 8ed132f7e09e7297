"""Step `write_provenance`: what the results were made with and from, their digests, and the bill of materials."""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from buffycoat.environment import hardware, installed, system, version
from buffycoat.errors import InputError
from buffycoat.files import sha256_of, write_json
from buffycoat.report.bill_of_materials import bill_of_materials
from buffycoat.report.settings import WriteProvenance
from buffycoat.report.used_weights import WEIGHTS, configured_weights, packaged_weights
from buffycoat.steps import run
from buffycoat.tables.images import IMAGES

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
    provenance: Path, sbom: Path, settings: WriteProvenance,
) -> None:  # fmt: skip
    """Write both files; `steps` are the digests of the code of the steps, `results` the files that are vouched for."""
    configuration, code = parsed(config, "--config"), parsed(steps, "--steps")
    table, packages, shipped = IMAGES.read(images), installed(), packaged_weights()
    configured = configured_weights(configuration)
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
        "weights": {"packaged": shipped, "configured": configured},
        "environment": system(),
        "packages": {name: found.version for name, found in packages.items()},
        "hardware": hardware(),
    }
    write_json(told, provenance)
    files = {f"{key}/{name}": digest for key, entry in configured.items() for name, digest in entry["files"].items()}
    models = {name: digest for name, digest in {**shipped, **files}.items() if name.endswith(WEIGHTS)}
    write_json(bill_of_materials(packages, version(), models), sbom)
    log.info("%d packages, %d results, %d files of weights", len(packages), len(told["results"]), len(models))


if __name__ == "__main__":
    run(write_provenance)
