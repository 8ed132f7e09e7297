"""The software bill of materials in CycloneDX 1.6 JSON: this package, all that is installed beside it, and weights.

Made of the installed packages' own metadata, without a time stamp: the same environment gives the same file.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from importlib.metadata import Distribution
from typing import Any
from urllib.parse import quote

from buffycoat.core.environment import OWN, needed_by

LONGEST_LICENCE = 100
"""Some packages put the licence's whole text where its name belongs."""


def package_url(name: str, version: str) -> str:
    """Return the package URL (purl) of a Python package."""
    return f"pkg:pypi/{quote(name, safe='')}@{quote(version, safe='')}"


def _told(distribution: Distribution, name: str) -> str:
    """Return what a package's metadata says under a name, empty where it says nothing."""
    values = distribution.metadata.get_all(name)
    return str(values[0]).strip() if values else ""


def licences(distribution: Distribution) -> list[dict[str, Any]]:
    """Return a package's licence as CycloneDX has it: an SPDX expression, or the names that the package gives."""
    if expression := _told(distribution, "License-Expression"):
        return [{"expression": expression}]
    classifiers = [line for line in distribution.metadata.get_all("Classifier") or [] if line.startswith("License ::")]
    names = [line.rpartition(" :: ")[2] for line in classifiers if not line.endswith("OSI Approved")]
    text = _told(distribution, "License")
    if not names and text and "\n" not in text and len(text) <= LONGEST_LICENCE:
        names = [text]
    return [{"license": {"name": name}} for name in sorted(set(names))]


def component(kind: str, name: str, distribution: Distribution) -> dict[str, Any]:
    """Return a package as a component; `kind` is 'application' or 'library'."""
    url = package_url(name, distribution.version)
    told: dict[str, Any] = {"type": kind, "bom-ref": url, "name": name, "version": distribution.version, "purl": url}
    if summary := _told(distribution, "Summary"):
        told["description"] = summary
    if found := licences(distribution):
        told["licenses"] = found
    return told


def weights_component(name: str, digest: str) -> dict[str, Any]:
    """Return a file of weights as a component."""
    return {
        "type": "machine-learning-model",
        "bom-ref": f"weights:{name}",
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def bill_of_materials(packages: Mapping[str, Distribution], version: str, weights: Mapping[str, str]) -> dict[str, Any]:
    """Return the bill: packages by canonical name (ours among them or not), our version, SHA-256 of weights by name."""
    urls = {name: package_url(name, found.version) for name, found in packages.items()}
    own = urls.setdefault(OWN, package_url(OWN, version))
    main = {"type": "application", "bom-ref": own, "name": OWN, "version": version, "purl": own}
    if OWN in packages:
        main = component("application", OWN, packages[OWN])
    libraries = [component("library", name, found) for name, found in packages.items() if name != OWN]
    models = [weights_component(name, digest) for name, digest in sorted(weights.items())]
    graph = [
        {"ref": urls[name], "dependsOn": sorted(urls[other] for other in needed_by(found) if other in urls)}
        for name, found in packages.items()
    ]
    content = {
        "metadata": {"component": main},
        "components": [*libraries, *models],
        "dependencies": graph,
    }
    # The number names this content: the same bill has the same one.
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, digest)}",
        "version": 1,
        **content,
    }
