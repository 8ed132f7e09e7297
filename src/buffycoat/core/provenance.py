"""Digest of a step's code: of the syntax trees along its import closure, blind to comments and formatting."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = "buffycoat"
ROOT = Path(__file__).parent.parent.parent


def _file_of(module: str) -> Path | None:
    """Return the source file of one of our modules, or None where there is no such module."""
    base = ROOT.joinpath(*module.split("."))
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.is_file():
            return file
    return None


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            # Any bare string is documentation: the first of a body, and those that follow a constant.
            node.body = [
                part
                for part in node.body
                if not (
                    isinstance(part, ast.Expr)
                    and isinstance(part.value, ast.Constant)
                    and isinstance(part.value.value, str)
                )
            ]
    return tree


@cache
def _tree_of(module: str) -> ast.Module | None:
    file = _file_of(module)
    return None if file is None else _without_docstrings(ast.parse(file.read_text(encoding="utf-8"), str(file)))


@cache
def _imported_by(tree: ast.Module) -> set[str]:
    """Return the names of our own modules that a tree imports, wherever in it the import stands."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] == PACKAGE and _file_of(name)}


def import_closure(module: str) -> list[str]:
    """Return `module` and every module of ours that it imports, directly or not, sorted; raises ImportError."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        tree = _tree_of(name)
        if tree is None:
            raise ImportError(f"{name}: no such module")
        if name not in found:
            found.add(name)
            waiting += sorted(_imported_by(tree))
    return sorted(found)


def _named_beside(module: str, tree: ast.Module) -> list[Path]:
    """Return the files beside a module that its constants name; of templates all, as they include each other."""
    folder = (_file_of(module) or ROOT).parent
    names = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    beside = {file.name: file for file in folder.iterdir() if file.is_file() and file.suffix != ".py"}
    found = {beside[name] for name in names & set(beside)}
    if any(file.suffix == ".j2" for file in found):
        found |= {file for file in beside.values() if file.suffix in (".j2", ".css")}
    return sorted(found)


@cache
def _digest_of(module: str) -> str:
    tree = _tree_of(module)
    if tree is None:
        return hashlib.sha256().hexdigest()
    parts = [ast.dump(tree).encode(), *(file.read_bytes() for file in _named_beside(module, tree))]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def code_digest(module: str) -> str:
    """Return 16 hexadecimal digits that change when the code of `module`, or of what it imports of ours, changes.

    Files beside a module that it names, such as templates and weights in the package, are its code too.
    """
    text = "\n".join(f"{name} {_digest_of(name)}" for name in import_closure(module))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
