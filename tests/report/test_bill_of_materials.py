from __future__ import annotations

import re
from email.message import Message

from buffycoat.core.environment import installed
from buffycoat.report.bill_of_materials import bill_of_materials, licences, package_url


class Given:
    """A distribution with this metadata."""

    version = "1.0"

    def __init__(self, **told: str | list[str]) -> None:
        self.metadata = Message()
        for name, values in told.items():
            for value in [values] if isinstance(values, str) else values:
                self.metadata[name.replace("_", "-")] = value


def test_the_bill_holds_what_cyclonedx_requires() -> None:
    packages = installed()
    bill = bill_of_materials(packages, "0.1.0", {"package/a.safetensors": "0" * 64})
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", bill["serialNumber"])
    parts = [bill["metadata"]["component"], *bill["components"]]
    assert all(part["type"] in ("application", "library", "machine-learning-model") and part["name"] for part in parts)
    names = [part["bom-ref"] for part in parts]
    assert len(set(names)) == len(names), "a reference names one part"
    assert len([part for part in parts if part["type"] == "library"]) == len(set(packages) - {"buffycoat"})
    for edge in bill["dependencies"]:
        assert edge["ref"] in names and set(edge["dependsOn"]) <= set(names)
        assert len(set(edge["dependsOn"])) == len(edge["dependsOn"])
    digests = [entry["content"] for part in parts for entry in part.get("hashes", [])]
    assert digests == ["0" * 64]


def test_the_graph_knows_who_needs_whom() -> None:
    bill = bill_of_materials(installed(), "0.1.0", {})
    needs = {edge["ref"]: edge["dependsOn"] for edge in bill["dependencies"]}
    (timm,) = (ref for ref in needs if ref.startswith("pkg:pypi/timm@"))
    assert any(ref.startswith("pkg:pypi/torch@") for ref in needs[timm])


def test_the_same_environment_gives_the_same_bill_and_another_weight_another() -> None:
    packages = installed()
    first, second = (bill_of_materials(packages, "0.1.0", {"w": "0" * 64}) for _ in range(2))
    assert first == second
    assert bill_of_materials(packages, "0.1.0", {"w": "1" * 64})["serialNumber"] != first["serialNumber"]


def test_ours_is_named_also_where_it_is_not_installed() -> None:
    bill = bill_of_materials({}, "unknown", {})
    assert bill["metadata"]["component"]["name"] == "buffycoat" and bill["components"] == []


def test_a_licence_is_an_expression_or_a_name_and_never_a_text() -> None:
    assert licences(Given(License_Expression="MIT AND BSD-3-Clause", Classifier=["License :: OSI Approved :: X"])) == [
        {"expression": "MIT AND BSD-3-Clause"}
    ]
    classified = Given(Classifier=["License :: OSI Approved", "License :: OSI Approved :: MIT License", "Topic :: A"])
    assert licences(classified) == [{"license": {"name": "MIT License"}}]
    assert licences(Given(License="BSD")) == [{"license": {"name": "BSD"}}]
    assert licences(Given(License="word " * 500)) == []


def test_a_package_url_is_quoted() -> None:
    assert package_url("torch", "2.0+cpu") == "pkg:pypi/torch@2.0%2Bcpu"
