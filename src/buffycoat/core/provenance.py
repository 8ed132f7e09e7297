"""Digest of a step's code: of the definitions that it reaches, blind to comments, formatting, annotations and texts.

A definition is a top-level function, class or constant. Names lead from one to the next, through imports too. What
only people read counts nowhere: docstrings, log lines, messages of errors, descriptions of settings and columns.
Names in strings (`importlib.import_module`, `globals()[...]`) lead nowhere, nor does an import that nothing uses.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "buffycoat"
ROOT = Path(__file__).parent.parent.parent
"""The folder that holds the package."""
LEFT_OUT = ("buffycoat.core", "buffycoat.config", "buffycoat.cli")
"""Running, naming and writing: nothing in these modules can change a number."""
EFFECTS = "(statements)"
"""Stands for the statements of a module that define nothing, such as `register(f)`: they run on import."""
TEXTS = {"Field": {"description", "title", "examples"}, "Option": {"help"}, "Argument": {"help"}, "Column": {"meaning"}}
"""Keywords that hold a text for people, by what is called."""
LOGGERS = ("log", "logger", "logging")
LOG_METHODS = ("debug", "info", "warning", "error", "exception", "critical")
EXCEPTIONS = ("Error", "Warning", "Exception", "Problem", "Interrupted")
"""How the names of exceptions end."""
NO_TEXT, SENTENCES, ALL_TEXT = range(3)
"""Which strings are left out: none; f-strings and those with a space, as others may be statuses; all."""

Target = tuple[str, tuple[str, ...]]
"""A module and a chain of names in it: `function.attribute`. Without names it is the whole module."""
IMPORT = (ast.Import, ast.ImportFrom)
DEFINITION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _last(node: ast.expr) -> str:
    """Return the last name of `a.b.name`, or an empty string."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_documentation(node: object) -> bool:
    """Return whether a statement is a bare string: the first of a body, or one that follows a constant."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _texts_in(call: ast.Call) -> int:
    """Return which strings among the arguments of a call are for people only."""
    name, owner = _last(call.func), _last(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    if (owner in LOGGERS and name in LOG_METHODS) or (name == "warn" and owner in ("", "warnings")):
        return ALL_TEXT
    # What is printed into a file is a result.
    if name == "print" and all(key.arg != "file" or _last(key.value) in ("stdout", "stderr") for key in call.keywords):
        return ALL_TEXT
    return SENTENCES if name.endswith(EXCEPTIONS) else NO_TEXT


def _without_description(call: ast.Call) -> ast.Call:
    """Return a call of `Field`, `Option`, `Column` and the like without what describes it."""
    name = _last(call.func)
    if name not in TEXTS:
        return call
    args, keywords = list(call.args), [key for key in call.keywords if key.arg not in TEXTS[name]]
    if name == "Column":
        # Column(name, type, meaning, ...)
        args[2:3] = [ast.Constant("") for _ in args[2:3]]
    return ast.Call(func=call.func, args=args, keywords=keywords)


class _Statement(ast.NodeVisitor):
    """A top-level statement, read once: what it does as a text, what it names, and which names it binds."""

    def __init__(self, node: ast.stmt, step: str) -> None:
        """Read it; `step` is the function whose annotations make a command line, so that they count."""
        self._text: list[str] = []
        self.strings: set[str] = set()
        self.imports: list[ast.Import | ast.ImportFrom] = []
        self.chains: set[tuple[str, ...]] = set()
        self.bound: set[str] = set()
        self.shared: set[str] = set()
        self._step, self._texts, self._in_class, self._in_command = step, NO_TEXT, False, False
        self.visit(node)
        self.digest = _sha("".join(self._text).encode())

    def read(self, part: Any) -> None:
        """Read a node in the way of its kind, a list of them, or a plain value."""
        if isinstance(part, ast.AST):
            self.visit(part)
        elif isinstance(part, list):
            self._text.append("[")
            for one in part:
                if not _is_documentation(one):
                    self.read(one)
            self._text.append("]")
        else:
            self._text.append(repr(part))

    def generic_visit(self, node: ast.AST) -> None:
        self._text.append(f"{type(node).__name__}(")
        for name in node._fields:
            value = getattr(node, name, None)
            if name not in ("ctx", "kind", "type_comment") and value is not None and value != []:
                self._text.append(f"{name}=")
                self.read(value)
        self._text.append(")")

    def _within(self, node: ast.AST, **state: Any) -> None:
        """Read a node in another state."""
        before = {name: getattr(self, name) for name in state}
        vars(self).update(state)
        self.generic_visit(node)
        vars(self).update(before)

    def _scope(self, node: ast.AST, names: Iterable[str] = ()) -> None:
        """Read a node in which `names`, and all that it binds, are not those of the module."""
        chains, bound, shared = set[tuple[str, ...]](), set(names), set[str]()
        self._within(node, chains=chains, bound=bound, shared=shared, _in_class=False)
        local = bound - shared
        self.chains |= {chain for chain in chains if chain[0] not in local}

    def visit_Name(self, node: ast.Name | ast.Attribute) -> None:
        names: list[str] = []
        value: ast.expr = node
        while isinstance(value, ast.Attribute):
            names, value = [value.attr, *names], value.value
        if isinstance(value, ast.Name):
            self.chains.add((value.id, *names))
            self.bound |= set() if isinstance(value.ctx, ast.Load) else {value.id}
            self._text.append(f"Name({'.'.join((value.id, *names))})")
        else:
            self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, str):
            value = "" if self._texts == ALL_TEXT or (self._texts == SENTENCES and " " in value) else value
            self.strings.add(value)
        self.generic_visit(ast.Constant(value))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self.generic_visit(node if self._texts == NO_TEXT else ast.Constant(""))

    def visit_Call(self, node: ast.Call) -> None:
        self._within(_without_description(node), _texts=max(self._texts, _texts_in(node)))

    def visit_Raise(self, node: ast.Raise) -> None:
        self._within(node, _texts=max(self._texts, SENTENCES))

    def visit_Assert(self, node: ast.Assert) -> None:
        self.generic_visit(ast.Assert(test=node.test))

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.imports.append(node)
        self.shared |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        self.shared |= set(node.names)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        # pydantic, dataclasses and NamedTuple read the annotations of a class's fields.
        if self._in_class:
            self.generic_visit(node)
        elif node.value is not None:
            self.generic_visit(ast.Assign(targets=[node.target], value=node.value))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.bound.add(node.name)
        # Methods do not see the names that the class binds.
        self._within(node, _in_class=True, bound=set(), shared=set())

    def visit_arg(self, node: ast.arg) -> None:
        self._text.append(f"arg({node.arg})")
        if self._in_command:
            self.read(node.annotation)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        args, name = node.args, getattr(node, "name", "")
        body: Any = node.body
        self.bound |= {name} - {""}
        self._text.append(f"{type(node).__name__}({name})")
        self.read(getattr(node, "decorator_list", []))
        self._within(args, _in_command=name == self._step and not self._in_class)
        every = (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg)
        self._scope(ast.Expr(body), {one.arg for one in every if one})

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        # The first iterable does not see the names of the comprehension.
        self.read(node.generators[0].iter)
        self._scope(node)

    visit_Attribute = visit_Name
    visit_ImportFrom = visit_Import
    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef
    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp


@cache
def _file_of(module: str) -> Path | None:
    """Return the source file of one of our modules, or None where there is no such module."""
    base = ROOT.joinpath(*module.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)


def _parse(module: str) -> tuple[str, ast.Module]:
    """Return the package in which a module lies, which may be itself, and its tree; raises ImportError."""
    if (file := _file_of(module)) is None:
        raise ImportError(f"{module}: no such module")
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    return module if file.name == "__init__.py" else module.rpartition(".")[0], tree


def _is_left_out(module: str) -> bool:
    return module.split(".")[0] != PACKAGE or any(f"{module}.".startswith(f"{name}.") for name in LEFT_OUT)


def _targets_of(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, Target]]:
    """Yield the names that an import binds, each with what it stands for."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            yield alias.asname or alias.name, (module, () if alias.name == "*" else (alias.name,))
        else:
            module = alias.name if alias.asname else alias.name.partition(".")[0]
            yield alias.asname or module, (module, ())


def _top_level(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield what runs on import, imports name by name: not the blocks for type checkers and for the command line."""
    for node in body:
        if isinstance(node, ast.If) and (
            _last(node.test) == "TYPE_CHECKING" or ast.unparse(node.test) == "__name__ == '__main__'"
        ):
            yield from _top_level(node.orelse)
        elif isinstance(node, IMPORT):
            yield from (type(node)(**{**vars(node), "names": [alias]}) for alias in node.names)
        else:
            yield node


def _only_defines(node: ast.AST) -> bool:
    """Return whether a statement does nothing but bind names."""
    if isinstance(node, ast.If | ast.Try | ast.ExceptHandler):
        return all(_only_defines(part) for part in ast.iter_child_nodes(node) if not isinstance(part, ast.expr))
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return not any(isinstance(one, ast.Attribute | ast.Subscript) for target in targets for one in ast.walk(target))
    return _is_documentation(node) or isinstance(node, (*IMPORT, *DEFINITION, ast.Pass))


@dataclass(frozen=True)
class _Source:
    """A module's top-level statements by the names that they bind, and where imports lead from these names."""

    package: str
    statements: dict[str, list[_Statement]] = field(default_factory=dict)
    imports: dict[str, set[Target]] = field(default_factory=dict)
    own: set[str] = field(default_factory=set)

    def add(self, node: ast.stmt, step: str) -> None:
        """Add a statement under every name that it binds, and under EFFECTS where it does anything else."""
        statement = _Statement(node, step)
        names = statement.bound | statement.shared
        names |= set() if _only_defines(node) and not self._may_register(node) else {EFFECTS}
        for name in names:
            self.statements.setdefault(name, []).append(statement)
        # Imports and mere strings count only where they are used: the string may be the end of an error's message.
        if not isinstance(node, IMPORT) and not isinstance(getattr(getattr(node, "value", 0), "value", 0), str):
            self.own.update(names)
        for part in () if isinstance(node, DEFINITION) else statement.imports:
            for name, target in _targets_of(part, self.package):
                self.imports.setdefault(name, set()).add(target)

    def _may_register(self, node: ast.stmt) -> bool:
        """Return whether code of ours decorates a definition: it may put it into a table."""
        parts = (part for decorator in getattr(node, "decorator_list", []) for part in ast.walk(decorator))
        names = {part.id for part in parts if isinstance(part, ast.Name)} & set(self.statements)
        return any(not _is_left_out(module) for name in names for module, _ in self.imports.get(name, {(PACKAGE, ())}))


@cache
def _source_of(module: str) -> _Source:
    package, tree = _parse(module)
    source = _Source(package)
    for node in _top_level(tree.body):
        source.add(node, step=module.rpartition(".")[2])
    return source


@cache
def _files_beside(package: str) -> dict[str, Path]:
    folder = ROOT.joinpath(*package.split("."))
    return {file.name: file for file in folder.iterdir() if file.is_file() and file.suffix != ".py"}


def _files_in(package: str, strings: set[str]) -> dict[str, str]:
    """Return the digests of the package's files that strings name; of templates all, as they include each other."""
    beside = _files_beside(package)
    names = strings & set(beside)
    if any(name.endswith(".j2") for name in names):
        names |= {name for name in beside if name.endswith((".j2", ".css"))}
    return {f"{package}:{name}": _sha(beside[name].read_bytes()) for name in names}


@cache
def _code_of(module: str, name: str) -> tuple[dict[str, str], set[Target]]:
    """Return the digests of what binds a name of a module and of files that it names, and what it refers to."""
    source = _source_of(module)
    code, targets = dict[str, str](), set[Target]()
    for statement in source.statements[name]:
        own = [target for node in statement.imports for target in _targets_of(node, source.package)]
        for head, *rest in statement.chains:
            targets |= {(other, (*chain, *rest)) for alias, (other, chain) in own if alias == head}
            targets |= {(module, (head, *rest))} if head in source.statements else set()
        code |= _files_in(source.package, statement.strings)
    code[f"{module}:{name}"] = _sha("".join(statement.digest for statement in source.statements[name]).encode())
    return code, targets


@cache
def _reach(target: Target) -> tuple[dict[str, str], set[Target]]:
    """Return the digests of the code that a target is, and the targets to which it leads."""
    module, chain = target
    if _is_left_out(module) or _file_of(module) is None:
        return {}, set()
    source = _source_of(module)
    if not chain:
        return {}, {(module, (name,)) for name in (*source.statements, EFFECTS)}
    head, rest, parts = chain[0], chain[1:], module.split(".")
    targets = {(".".join(parts[:n]), (EFFECTS,)) for n in range(1, len(parts) + 1)} | source.imports.get("*", set())
    targets |= {(other, (*names, *rest)) for other, names in source.imports.get(head, ())}
    is_submodule = source.package == module and _file_of(f"{module}.{head}") is not None
    if is_submodule:
        targets.add((f"{module}.{head}", rest))
    if head in source.statements:
        code, others = _code_of(module, head)
        return code, targets | others
    # A name that is not to be seen here comes into being in another way: then everything counts.
    return {}, targets if is_submodule or head == EFFECTS else targets | {(module, ())}


def explain(module: str) -> dict[str, str]:
    """Return the digests of all code that `module` needs, by `module:name`; two of them compared say what changed."""
    waiting: list[Target] = [(module, (name,)) for name in {EFFECTS, *_source_of(module).own}]
    code, reached = dict[str, str](), set[Target]()
    while waiting:
        if (target := waiting.pop()) not in reached:
            reached.add(target)
            own, targets = _reach(target)
            code |= own
            waiting += targets
    return dict(sorted(code.items()))


@cache
def code_digest(module: str) -> str:
    """Return 16 hexadecimal digits that change when code that `module` needs changes; raises ImportError.

    Files beside a module that it names, such as templates and weights in the package, are its code too.
    """
    return _sha("\n".join(f"{name} {digest}" for name, digest in explain(module).items()).encode())


@cache
def _imports_of(module: str) -> set[str]:
    """Return the names of our own modules that a module imports, wherever in it the import stands."""
    package, tree = _parse(module)
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, IMPORT):
            names |= {alias.name for alias in node.names}
            for _, (base, chain) in _targets_of(node, package):
                names |= {base, ".".join((base, *chain))}
    return {name for name in names if name.split(".")[0] == PACKAGE and _file_of(name)}


def import_closure(module: str) -> list[str]:
    """Return `module` and every module of ours that it imports, directly or not, sorted; raises ImportError."""
    modules: set[str] = set()
    waiting = [module]
    while waiting:
        if (name := waiting.pop()) not in modules:
            modules.add(name)
            waiting += _imports_of(name)
    return sorted(modules)


def forget() -> None:
    """Forget every file that was read: it may have changed since."""
    for function in (_file_of, _source_of, _files_beside, _code_of, _reach, code_digest, _imports_of):
        function.cache_clear()
