from __future__ import annotations

from pathlib import Path

import pytest

from buffycoat.core import provenance


@pytest.fixture()
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package of the same name: step imports pure and settings; other stands alone."""
    root = tmp_path / "buffycoat"
    root.mkdir()
    (root / "__init__.py").write_text('"""Package."""\n')
    (root / "step.py").write_text(
        "from buffycoat.pure import f\nfrom buffycoat import settings\n\n\ndef step():\n    return f()\n"
    )
    (root / "pure.py").write_text('"""Pure."""\n\nLIMIT = 3\n\n\ndef f():\n    """Return."""\n    return LIMIT\n')
    (root / "settings.py").write_text("X = 1\n")
    (root / "other.py").write_text("Y = 1\n")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return root


def digest() -> str:
    provenance._tree_of.cache_clear()
    provenance._digest_of.cache_clear()
    return provenance.code_digest("buffycoat.step")


def test_closure_follows_imports(package: Path) -> None:
    digest()
    assert provenance.import_closure("buffycoat.step") == [
        "buffycoat",
        "buffycoat.pure",
        "buffycoat.core.settings",
        "buffycoat.step",
    ]


@pytest.mark.parametrize("module", ["step", "pure", "settings"])
def test_a_changed_line_changes_the_digest(package: Path, module: str) -> None:
    before = digest()
    file = package / f"{module}.py"
    file.write_text(file.read_text() + "\nNEW = 2\n")
    assert digest() != before


def test_a_changed_number_changes_the_digest(package: Path) -> None:
    before = digest()
    (package / "pure.py").write_text((package / "pure.py").read_text().replace("LIMIT = 3", "LIMIT = 4"))
    assert digest() != before


def test_comments_formatting_docstrings_and_other_modules_do_not(package: Path) -> None:
    before = digest()
    (package / "pure.py").write_text(
        '"""Other words."""\n# why\nLIMIT = (\n    3\n)\n\ndef f():\n    """More."""\n    return LIMIT  # so\n'
    )
    (package / "other.py").write_text("Y = 2\n")
    assert digest() == before


def test_an_unknown_module_is_an_error(package: Path) -> None:
    with pytest.raises(ImportError, match="buffycoat.absent"):
        provenance.import_closure("buffycoat.absent")


def test_moving_the_tree_does_not_change_the_digest(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    package.rename(elsewhere / "buffycoat")
    monkeypatch.setattr(provenance, "ROOT", elsewhere)
    assert digest() == before


def test_a_file_that_a_module_names_is_its_code(package: Path) -> None:
    for name in ("weights.bin", "unnamed.bin", "page.j2", "part.j2"):
        (package / name).write_text("1")
    pure = (package / "pure.py").read_text()
    (package / "pure.py").write_text(pure + '\nFILES = ("weights.bin", "page.j2")\n')
    before = digest()
    (package / "unnamed.bin").write_text("2")
    assert digest() == before
    for name in ("weights.bin", "page.j2", "part.j2"):
        (package / name).write_text("2")
        assert digest() != before, name
        (package / name).write_text("1")
    assert digest() == before
