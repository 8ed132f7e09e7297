from __future__ import annotations

import importlib.metadata
import platform

import pytest

from buffycoat.core import environment


def test_every_installed_package_is_listed_once_by_its_canonical_name() -> None:
    found = environment.installed()
    assert list(found) == sorted(found)
    assert found["numpy"].version == importlib.metadata.version("numpy")
    assert "open-clip-torch" in found and "open_clip_torch" not in found


def test_the_system_and_the_hardware_are_told() -> None:
    assert environment.system()["python"] == platform.python_version()
    found = environment.hardware()
    assert found["cores"] >= 1 and found["memory_gib"] >= 1 and found["processor"] and isinstance(found["gpus"], list)


def test_an_uninstalled_copy_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "OWN", "no-such-package-anywhere")
    assert environment.version() == "unknown"
