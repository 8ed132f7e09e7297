from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buffycoat.core import provenance

SOURCE = provenance.ROOT
STEP = "buffycoat.stage.step"
RULES = sorted((SOURCE.parent / "workflow" / "rules").glob("*.smk"))
STEPS = sorted({name for file in RULES for name in re.findall(r'code_of\("(buffycoat[\w.]+)"\)', file.read_text())})
Write = Callable[..., None]

BASE = {
    **{f"{folder}__init__.py": "" for folder in ("", "core/", "data/", "stage/")},
    "stage/step.py": "from buffycoat.data.part import f\n\n\ndef step():\n    return f()\n",
    "data/part.py": "def f():\n    return 1\n",
}


@pytest.fixture()
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a small package of the same name: `stage.step` needs `f` of `data.part`; arguments replace files."""

    def write_files(**files: str) -> None:
        for name, text in (BASE | {key.replace("__", "/") + ".py": text for key, text in files.items()}).items():
            file = tmp_path / "buffycoat" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        provenance.forget()

    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    write_files()
    yield write_files
    provenance.forget()


def digest_of_part(write: Write, text: str) -> str:
    write(data__part=text)
    return provenance.code_digest(STEP)


def names(module: str = STEP) -> set[str]:
    """Return what counts, without the name of the package."""
    return {name.removeprefix("buffycoat.") for name in provenance.explain(module)}


BLIND = {
    "comment": ("def f(): return 1", "# why\ndef f(): return 1  # so"),
    "formatting": ("def f(): return (1, 'a')", 'def f():\n\n    return (\n        1,\n        "a",\n    )'),
    "docstring": ("def f(): return 1", 'def f():\n    """Return."""\n    return 1'),
    "docstring of a module": ("def f(): return 1", '"""Part."""\ndef f(): return 1'),
    "docstring of a class": ("class f:\n  x = 1", "class f:\n  'A class.'\n  x = 1\n  'After a constant.'"),
    "bare string in a block": ("def f():\n  if 1:\n    g = 2", "def f():\n  if 1:\n    g = 2\n    'why'"),
    "bare string after a constant": ("K = 1\ndef f(): return K", "K = 1\n'''Why.'''\ndef f(): return K"),
    "annotation of an argument": ("def f(a=1): return a", "def f(a: int = 1): return a"),
    "annotation of a star argument": ("def f(*a, **b): pass", "def f(*a: int, **b: str): pass"),
    "annotation of a result": ("def f(): return 1", "def f() -> int: return 1"),
    "annotation of a method": ("class f:\n  def g(self): pass", "class f:\n  def g(self: 'f') -> None: pass"),
    "annotation of a local variable": ("def f():\n  a = 1", "def f():\n  a: int = 1"),
    "declaration of a local variable": ("def f():\n  a = 1", "def f():\n  a: int\n  a = 1"),
    "annotation of an attribute": ("class f:\n def g(self): self.a = 1", "class f:\n def g(self): self.a: int = 1"),
    "annotation of a constant": ("K = 1\ndef f(): return K", "K: int = 1\ndef f(): return K"),
    "what an annotation names": ("def f(a=1): return a", "class H: x = 1\ndef f(a: H = 1) -> H: return a"),
    "description of a field": ("class f:\n  a: int = Field(1, description='x y')", "class f:\n  a: int = Field(1)"),
    "title and examples": ("f = Field(1, title='a', examples=[1])", "f = Field(1, title='b', examples=[2])"),
    "description in an annotation": (
        "class f:\n  a: Annotated[int, Field(ge=1, description='x')]",
        "class f:\n  a: Annotated[int, Field(ge=1, description='y')]",
    ),
    "help of an option": ("f = typer.Option('--a', help='x')", "f = typer.Option('--a', help=f'{1} y')"),
    "help of an argument": ("f = typer.Argument(1, help='x')", "f = typer.Argument(1)"),
    "meaning of a column": ("f = Column('a', int, 'x', gaps=True)", "f = Column('a', int, WORDS + 'y', gaps=True)"),
    "meaning by keyword": ("f = Column('a', int, meaning='x')", "f = Column('a', int, meaning='y')"),
    "log line": ("def f(n): log.info('%d cells', n)", "def f(n): log.info('%d images, all', n)"),
    "log word": ("def f(): log.warning('done')", "def f(): log.warning('finished')"),
    "log f-string": ("def f(n): log.error(f'{n} cells')", "def f(n): log.error(f'{n + 1} cells of {g}')"),
    "log text in a call": ("def f(a): log.debug('%s', a or 'none')", "def f(a): log.debug('%s', a or 'nothing')"),
    "logger": ("def f(): logger.exception('a')", "def f(): logger.exception('b')"),
    "logging": ("def f(): logging.critical('a')", "def f(): logging.critical('b')"),
    "own logger": ("class f:\n  def g(self): self.log.info('a')", "class f:\n  def g(self): self.log.info('b')"),
    "message of an exception": ("def f(): raise InputError('a b')", "def f(): raise InputError('c d')"),
    "f-string of an exception": ("def f(n): raise ValueError(f'{n}')", "def f(n): raise ValueError(f'{n!r}: {g(n)}')"),
    "string or f-string": ("def f(n): raise ValueError('a b')", "def f(n): raise ValueError(f'a {n}')"),
    "message of any raised call": ("def f(): raise typer.Exit('a b')", "def f(): raise typer.Exit('c d')"),
    "message that is put together": (
        "def f(n): raise InputError('; '.join(f'{m}' for m in n))",
        "def f(n): raise InputError(', '.join(f'<{m}>' for m in n))",
    ),
    "exception that is not raised": ("def f(): return KeyError('a b')", "def f(): return KeyError('c d')"),
    "problem": ("def f(): return ImageProblem('large', 'a b')", "def f(): return ImageProblem('large', f'{f} c')"),
    "message of an assertion": ("def f(n): assert n, 'a'", "def f(n): assert n, f'{g} b'"),
    "warning": ("def f(): warnings.warn('a', stacklevel=2)", "def f(): warnings.warn('b', stacklevel=2)"),
    "imported warn": ("def f(): warn('a')", "def f(): warn(f'{f} b')"),
    "print": ("def f(n): print('a', n)", "def f(n): print(f'b {n}', n)"),
    "print to standard error": ("def f(): print('a', file=sys.stderr)", "def f(): print('b', file=sys.stderr)"),
    "block for type checkers": ("def f(): return 1", "if TYPE_CHECKING:\n  import os\n  x()\ndef f(): return 1"),
    "block for the command line": ("def f(): return 1", "def f(): return 1\nif __name__ == '__main__':\n  g(f)"),
    "order of definitions": ("K = 1\ndef g(): pass\ndef f(): g(K)", "def f(): g(K)\ndef g(): pass\nK = 1"),
    "definition that nothing names": ("def f(): return 1", "def f(): return 1\ndef g(): return 2\nK = 3"),
    "import that nothing names": ("def f(): return 1", "import json\nfrom os import path as p\ndef f(): return 1"),
    "text that only a message names": (
        "END = '; sorry'\ndef f(): raise InputError(f'a{END}')",
        "END = '; mend it'\ndef f(): raise InputError(f'a{END}')",
    ),
    "argument that is called like a definition": (
        "def f(a, *b, c=1, **d): return a, b, c, d",
        "def f(a, *b, c=1, **d): return a, b, c, d\ndef a(): pass\nb = c = d = 2",
    ),
    "local name that is called like a definition": (
        "def f():\n  g = 1\n  return [lambda h: h + k for k in g]",
        "def f():\n  g = 1\n  return [lambda h: h + k for k in g]\ndef g(): pass\nh = k = 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), BLIND.values(), ids=BLIND)
def test_what_only_people_read_does_not_count(write: Write, before: str, after: str) -> None:
    assert digest_of_part(write, before) == digest_of_part(write, after)


SEEN = {
    "number": ("def f(): return 1", "def f(): return 2"),
    "type of a number": ("def f(): return 1", "def f(): return 1.0"),
    "truth": ("def f(): return 1", "def f(): return True"),
    "none": ("def f(): return ''", "def f(): return None"),
    "string": ("def f(): return {'reason': 'too dark'}", "def f(): return {'reason': 'too light'}"),
    "f-string": ("def f(n): return f'{n} a'", "def f(n): return f'{n} b'"),
    "literal": ("f = Literal['a', 'b']", "f = Literal['a', 'c']"),
    "name": ("def f(a): return a", "def f(b): return b"),
    "order of statements": ("def f():\n  a()\n  b()", "def f():\n  b()\n  a()"),
    "default": ("def f(a=1): return a", "def f(a=2): return a"),
    "kind of an argument": ("def f(a): return a", "def f(*, a): return a"),
    "decorator": ("def f(): pass", "@cache\ndef f(): pass"),
    "coroutine": ("def f(): pass", "async def f(): pass"),
    "base": ("class f(A): pass", "class f(B): pass"),
    "annotation of a field": ("class f:\n  a: int = 1", "class f:\n  a: float = 1"),
    "field without a default": ("class f:\n  a: int", "class f:\n  a: int\n  b: int"),
    "what a field's annotation names": ("K = 1\nclass f:\n  a: K", "K = 2\nclass f:\n  a: K"),
    "bound of a field": ("f = Field(1, ge=0, description='a')", "f = Field(1, ge=1, description='a')"),
    "name of an option": ("f = typer.Option('--a', help='x')", "f = typer.Option('--b', help='x')"),
    "type of a column": ("f = Column('a', int, 'x')", "f = Column('a', float, 'x')"),
    "gaps of a column": ("f = Column('a', int, 'x', True)", "f = Column('a', int, 'x', False)"),
    "description elsewhere": ("f = g(description='a')", "f = g(description='b')"),
    "what is logged": ("def f(n): log.info('n', n)", "def f(n): log.info('n', n + 1)"),
    "method called like one of a log": ("def f(a): a.info('x')", "def f(a): a.info('y')"),
    "class of an exception": ("def f(): raise InputError('a b')", "def f(): raise ValueError('a b')"),
    "status": ("def f(): raise ImageProblem('large', 'a b')", "def f(): raise ImageProblem('small', 'a b')"),
    "status that is not raised": ("def f(): return ImageProblem('large')", "def f(): return ImageProblem('small')"),
    "number of an exception": ("def f(): raise Interrupted(1)", "def f(): raise Interrupted(2)"),
    "condition of an assertion": ("def f(n): assert n, 'a'", "def f(n): assert not n, 'a'"),
    "print into a file": ("def f(t): print('a', file=t)", "def f(t): print('b', file=t)"),
    "constant": ("K = 1\ndef f(): return K", "K = 2\ndef f(): return K"),
    "annotated constant": ("K: int = 1\ndef f(): return K", "K: int = 2\ndef f(): return K"),
    "one of two constants": ("J, (K, *L) = 1, (2, 3)\ndef f(): return K", "J, (K, *L) = 1, (3, 3)\ndef f(): return K"),
    "second definition": ("K = 1\ndef f(): return K", "K = 1\nK = 2\ndef f(): return K"),
    "order of two definitions": ("K = 1\nK = 2\ndef f(): return K", "K = 2\nK = 1\ndef f(): return K"),
    "augmented constant": ("K = [1]\nK += [2]\ndef f(): return K", "K = [1]\nK += [3]\ndef f(): return K"),
    "chain of definitions": ("K = 1\nclass A: x = K\ndef f(): A()", "K = 2\nclass A: x = K\ndef f(): A()"),
    "name in a default": ("K = 1\ndef f(K=K): return K", "K = 2\ndef f(K=K): return K"),
    "name in a first iterable": ("K = 1\ndef f(): return [K for K in K]", "K = 2\ndef f(): return [K for K in K]"),
    "name in a method": ("K = 1\nclass f:\n  K = K\n  def g(self): return K",
                         "K = 2\nclass f:\n  K = K\n  def g(self): return K"),
    "name in a lambda": ("K = 1\nf = lambda a: a + K", "K = 2\nf = lambda a: a + K"),
    "name after a comprehension of it": ("K = 1\ndef f(): return [K for K in a], K",
                                         "K = 2\ndef f(): return [K for K in a], K"),
    "global name": ("K = 1\ndef f():\n  global K\n  K += 1", "K = 2\ndef f():\n  global K\n  K += 1"),
    "origin of a name": ("from math import floor as g\ndef f(): return g(1)",
                         "from math import ceil as g\ndef f(): return g(1)"),
    "block that defines": ("try:\n  K = 1\nexcept E:\n  K = 2\ndef f(): return K",
                           "try:\n  K = 1\nexcept E:\n  K = 3\ndef f(): return K"),
    "other way than for type checkers": ("if TYPE_CHECKING:\n  K = 1\nelse:\n  K = 2\ndef f(): return K",
                                         "if TYPE_CHECKING:\n  K = 1\nelse:\n  K = 3\ndef f(): return K"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), SEEN.values(), ids=SEEN)
def test_what_changes_a_result_counts(write: Write, before: str, after: str) -> None:
    assert digest_of_part(write, before) != digest_of_part(write, after)


EFFECTS = {
    "call": "register(g)",
    "call of a method": "TABLE.add(g)",
    "subscript": "TABLE['g'] = g",
    "attribute": "TABLE.g = g",
    "annotated attribute": "TABLE.g: int = g",
    "augmented subscript": "TABLE['g'] += g",
    "loop": "for k in (1, 2):\n  TABLE[k] = g",
    "condition": "if sys.platform:\n  register(g)",
    "with": "with lock:\n  register(g)",
    "try": "try:\n  register(g)\nexcept E:\n  pass",
    "definition beside an effect": "if True:\n  K = 1\n  register(g)",
    "assertion": "assert g",
    "deletion": "del TABLE[g]",
    "decorator": "def register(h): TABLE.append(h)\n@register\ndef h(): return g",
    "method as a decorator": "APP = App()\n@APP.command()\ndef h(): return g",
}


@pytest.mark.parametrize("effect", EFFECTS.values(), ids=EFFECTS)
@pytest.mark.parametrize("place", ["stage__step", "data__part", "data____init__", "__init__"])
def test_statements_that_define_nothing_count_with_what_they_name(write: Write, effect: str, place: str) -> None:
    file = {"data____init__": "data/__init__", "__init__": "__init__"}.get(place, place.replace("__", "/")) + ".py"
    before = provenance.code_digest(STEP)
    digests = {before}
    for number in (1, 2):
        write()
        path = provenance.ROOT / "buffycoat" / file
        path.write_text(BASE[file] + f"\ndef g(): return {number}\n{effect}\n")
        digests.add(provenance.code_digest(STEP))
    assert len(digests) == 3


@pytest.mark.parametrize("text", ["def h(): return 1", "K = g()", "try:\n  import os\nexcept E:\n  os = None",
                                  "if sys.platform:\n  def h(): return 1", "@cache\ndef h(): return 1"])  # fmt: skip
def test_statements_that_only_define_do_not_count_unless_they_are_named(write: Write, text: str) -> None:
    assert digest_of_part(write, f"from functools import cache\n{text}\n{BASE['data/part.py']}") == digest_of_part(
        write, BASE["data/part.py"]
    )


def test_statements_of_modules_that_are_not_reached_do_not_count(write: Write) -> None:
    write(data__other="TABLE[1] = 1", data__part="from buffycoat.data.other import g\ndef f(): return 1")
    assert names() == {"stage.step:f", "stage.step:step", "data.part:f"}


def test_everything_in_the_step_counts_but_unused_imports_and_mere_texts(write: Write) -> None:
    write(
        stage__step="""
import json
from buffycoat.data.part import f
from buffycoat.data.part import f as run
WORDS = "and mend it"
USED = "reason"
NUMBER = 1
def helper(): raise InputError(f"a {WORDS}")
def step(): return USED
if __name__ == "__main__":
    run(step)
"""
    )
    assert names() == {f"stage.step:{name}" for name in ("USED", "NUMBER", "helper", "step")}


def test_the_annotations_of_the_step_function_count_as_they_make_its_command_line(write: Write) -> None:
    step = "from buffycoat.data.part import f\ndef step(*, settings: f, count: int) -> int: return settings.side\n"
    write(stage__step=step)
    before = provenance.code_digest(STEP)
    assert "data.part:f" in names()
    write(stage__step=step.replace("-> int", "-> float"))
    assert provenance.code_digest(STEP) == before
    write(stage__step=step.replace("count: int", "count: float"))
    assert provenance.code_digest(STEP) != before
    write(stage__step=step.replace("def step(", "def other("))
    assert "data.part:f" not in names()


PART = "def f(): return g()\ndef g(): return 1\ndef h(): return 2\nK = 3"
WHOLE = {f"data.part:{name}" for name in "fghK"}
F = {"data.part:f", "data.part:g"}
REACHES = {
    "name": ("from buffycoat.data.part import f\ndef step(): f()", F),
    "name by another": ("from buffycoat.data.part import f as x\ndef step(): x()", F),
    "import in a function": ("def step():\n  from buffycoat.data.part import f\n  f()", F),
    "import in an inner function": ("def step():\n  def a():\n    from buffycoat.data.part import f\n    f()", F),
    "import in a class": ("class A:\n  from buffycoat.data.part import f\n  def a(self): self.f()", set()),
    "relative import": ("from ..data.part import f\ndef step(): f()", F),
    "relative import of a module": ("from ..data import part\ndef step(): part.f()", F),
    "import in a block": ("try:\n  from buffycoat.data.part import f\nexcept E:\n  f = 1\ndef step(): f()", F),
    "attribute of a module": ("from buffycoat.data import part\ndef step(): part.f.cache_clear()", F),
    "attribute of a module by another name": ("import buffycoat.data.part as p\ndef step(): p.f()", F),
    "attribute by the whole path": ("import buffycoat.data.part\ndef step(): buffycoat.data.part.f()", F),
    "path imported in a function": ("def step():\n  import buffycoat.data.part\n  buffycoat.data.part.f()", F),
    "name that is put in": ("from buffycoat.data import part\ndef step(): part.K = 1", {"data.part:K"}),
    "decorator": ("from buffycoat.data.part import f\n@f\ndef step(): pass", F),
    "default": ("from buffycoat.data.part import f\ndef step(a=f): pass", F),
    "base": ("from buffycoat.data import part\nclass A(part.f): pass", F),
    "annotation of a field": ("from buffycoat.data import part\nclass A:\n  a: list[part.f]", F),
    "module passed on": ("from buffycoat.data import part\ndef step(): show(part)", WHOLE),
    "module asked by a string": ("import buffycoat.data.part as p\ndef step(): getattr(p, 'f')", WHOLE),
    "attribute that is not there": ("from buffycoat.data import part\ndef step(): part.x()", WHOLE),
    "name that is not there": ("from buffycoat.data.part import x\ndef step(): x()", WHOLE),
    "every name": ("from buffycoat.data.part import *\ndef step(): f()", WHOLE),
    "unused import": ("from buffycoat.data.part import f\ndef step(): pass", set()),
    "import that a local name hides": ("from buffycoat.data import part\ndef step(part): part.f()", set()),
    "import for annotations": ("from buffycoat.data.part import f\ndef helper(a: f) -> f: a: f = 1", set()),
    "import for type checkers": ("if TYPE_CHECKING:\n  from buffycoat.data.part import f\ndef step(): f()", set()),
    "import for texts": ("from buffycoat.data.part import f\ndef step(): raise ValueError(f'{f()}')", set()),
    "import for a description": ("from buffycoat.data.part import K\nA = Field(1, description=K)", set()),
}


@pytest.mark.parametrize(("step", "reached"), REACHES.values(), ids=REACHES)
def test_names_lead_through_imports(write: Write, step: str, reached: set[str]) -> None:
    write(stage__step=step, data__part=PART)
    assert {name for name in names() if name.startswith("data.part")} == reached


def test_what_a_module_passes_on_is_followed(write: Write) -> None:
    write(data__part="from buffycoat.data.home import g as f\nX = 1", data__home="def g(): return 1\nY = 2")
    assert names() == {"stage.step:f", "stage.step:step", "data.part:f", "data.home:g"}


@pytest.mark.parametrize(
    "line", ["from buffycoat.data.part import f", "from .part import f", "from buffycoat.data.part import *"]
)
def test_what_a_package_passes_on_is_followed(write: Write, line: str) -> None:
    write(stage__step="from buffycoat import data\ndef step(): data.f()")
    (provenance.ROOT / "buffycoat" / "data" / "__init__.py").write_text(line)
    assert "data.part:f" in names()


def test_a_module_that_is_used_as_a_whole_counts_with_what_it_imports(write: Write) -> None:
    write(
        stage__step="from buffycoat.data import part\ndef step(): return vars(part)",
        data__part="from buffycoat.data import home\nX = 1",
        data__home="Y = 2",
    )
    assert {"data.part:X", "data.home:Y"} <= names()


def test_modules_may_import_each_other(write: Write) -> None:
    write(
        data__part="from buffycoat.data import home\ndef f(): return home.g()",
        data__home="from buffycoat.data import part\ndef g(): return part.f()\ndef h(): pass",
    )
    assert {name for name in names() if name.startswith("data")} == {
        "data.part:f", "data.part:home", "data.home:g", "data.home:part",
    }  # fmt: skip


@pytest.mark.parametrize("module", ["core.files", "config", "cli"])
def test_what_runs_and_names_and_writes_is_left_out(write: Write, module: str) -> None:
    key = module.replace(".", "__")
    step = f"from buffycoat.{module} import f\ndef step(): return f()"
    write(**{"stage__step": step, key: "from buffycoat.data import part\ndef f(): return part.f()\nshow(1)"})
    before = provenance.code_digest(STEP)
    write(**{"stage__step": step, key: "def f(): return 3\nshow(2)"})
    assert provenance.code_digest(STEP) == before
    assert names() == {"stage.step:f", "stage.step:step"}
    write(**{"stage__step": step.replace("import f", "import g as f")})
    assert provenance.code_digest(STEP) != before


def test_a_module_whose_name_begins_like_one_that_is_left_out_counts(write: Write) -> None:
    write(stage__step="from buffycoat import config_of\ndef step(): config_of.f()", config_of="def f(): return 1")
    assert "config_of:f" in names()


def test_a_file_that_reached_code_names_counts(write: Write) -> None:
    write(data__part="def f(): return 'weights.bin'\ndef g(): return 'other.bin'")
    folder = provenance.ROOT / "buffycoat" / "data"
    for name in ("weights.bin", "other.bin", "unnamed.bin"):
        (folder / name).write_text("1")
    provenance.forget()
    before = provenance.code_digest(STEP)
    assert "data:weights.bin" in names()
    for name, counts in (("weights.bin", True), ("other.bin", False), ("unnamed.bin", False)):
        (folder / name).write_text("2")
        provenance.forget()
        assert (provenance.code_digest(STEP) != before) == counts, name
        (folder / name).write_text("1")


def test_templates_count_together_with_their_style(write: Write) -> None:
    write(data__part="def f(): return 'page.j2'")
    for name in ("page.j2", "part.j2", "style.css", "data.csv"):
        (provenance.ROOT / "buffycoat" / "data" / name).write_text("1")
        (provenance.ROOT / "buffycoat" / "stage" / name).write_text("1")
    provenance.forget()
    assert {name for name in names() if "." in name.partition(":")[2]} == {
        f"data:{name}" for name in ("page.j2", "part.j2", "style.css")
    }


def test_a_file_that_only_a_text_names_does_not_count(write: Write) -> None:
    write(data__part='def f():\n    """weights.bin"""\n    "weights.bin"\n    log.info("weights.bin")')
    (provenance.ROOT / "buffycoat" / "data" / "weights.bin").write_text("1")
    provenance.forget()
    assert "data:weights.bin" not in names()


def test_where_the_tree_lies_does_not_count(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(data__part="def f(): return 'weights.bin'")
    (tmp_path / "buffycoat" / "data" / "weights.bin").write_text("1")
    provenance.forget()
    before = provenance.explain(STEP)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "buffycoat").rename(tmp_path / "elsewhere" / "buffycoat")
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "elsewhere")
    provenance.forget()
    assert provenance.explain(STEP) == before and "buffycoat.data:weights.bin" in before


def test_which_digest_is_asked_first_does_not_count(write: Write) -> None:
    write(stage__other="from buffycoat.data.part import g\nK = g", data__part=PART)
    modules = [STEP, "buffycoat.stage.other", "buffycoat.data.part"]
    before = {module: provenance.code_digest(module) for module in modules}
    provenance.forget()
    assert {module: provenance.code_digest(module) for module in reversed(modules)} == before
    assert len(set(before.values())) == 3


def test_a_new_process_gives_the_same_digest_and_needs_nothing_but_python(write: Write) -> None:
    write(data__part=PART + "\nregister(f)\n")
    code = (
        "import sys; from pathlib import Path; from buffycoat.core import provenance;"
        f"provenance.ROOT = Path({str(provenance.ROOT)!r}); print(provenance.code_digest({STEP!r}));"
        "assert not {'numpy', 'pydantic', 'typer', 'snakemake'} & set(sys.modules)"
    )
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(SOURCE)}
        answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert answer.stdout.strip() == provenance.code_digest(STEP), answer.stderr


def test_a_digest_is_16_hexadecimal_digits_and_lasts_until_files_are_forgotten(write: Write) -> None:
    before = provenance.code_digest(STEP)
    assert re.fullmatch("[0-9a-f]{16}", before)
    (provenance.ROOT / "buffycoat" / "data" / "part.py").write_text("def f(): return 2")
    assert provenance.code_digest(STEP) == before
    provenance.forget()
    assert provenance.code_digest(STEP) != before


def test_an_explanation_says_which_definition_changed(write: Write) -> None:
    write(data__part=PART)
    before = provenance.explain(STEP)
    write(data__part=PART.replace("return 1", "return 7"))
    after = provenance.explain(STEP)
    assert list(before) == sorted(before)
    assert {name for name in before if before[name] != after[name]} == {"buffycoat.data.part:g"}
    assert before.keys() == after.keys()


@pytest.mark.parametrize("question", [provenance.code_digest, provenance.explain, provenance.import_closure])
def test_an_unknown_module_is_an_error(write: Write, question: Callable[[str], object]) -> None:
    with pytest.raises(ImportError, match="buffycoat.absent: no such module"):
        question("buffycoat.absent")


def test_the_closure_follows_every_import_whether_it_is_used_or_not(write: Write) -> None:
    write(
        stage__step="from buffycoat.data.part import f\nfrom buffycoat.core.files import x\nimport json\n",
        core__files="from buffycoat import other",
        data__part="def f():\n    import buffycoat.data.deep as deep\n",
        data__deep="if TYPE_CHECKING:\n    from . import part\n",
        other="",
        unused="",
    )
    assert provenance.import_closure(STEP) == [
        "buffycoat", "buffycoat.core.files", "buffycoat.data", "buffycoat.data.deep", "buffycoat.data.part",
        "buffycoat.other", STEP,
    ]  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_every_step_of_the_workflow_has_a_digest_of_its_own_code(step: str) -> None:
    code = provenance.explain(step)
    assert f"{step}:{step.rpartition('.')[2]}" in code
    assert not any(name.startswith(tuple(f"{part}." for part in provenance.LEFT_OUT)) for name in code)


def test_no_two_steps_have_the_same_digest() -> None:
    assert len(STEPS) > 20, "the rules are elsewhere"
    assert len({provenance.code_digest(step) for step in STEPS}) == len(STEPS)
