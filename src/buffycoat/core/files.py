"""Files written whole or not at all, and files that carry their own SHA-256."""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from buffycoat.core.errors import InputError

log = logging.getLogger("buffycoat")
MARK = "buffycoat.sha256:"
DIGITS = 64
WINDOWS = os.name == "nt"
OPEN_SEAL = MARK + "0" * DIGITS
"""The text that whoever writes a file puts into it before `close_seal`."""


def _digest(content: mmap.mmap, place: int) -> bytes:
    """Return the digits for a file whose digits begin at `place`."""
    digest = hashlib.sha256()
    with memoryview(content) as view, view[:place] as before, view[place + DIGITS :] as after:
        digest.update(before)
        digest.update(b"0" * DIGITS)
        digest.update(after)
    return digest.hexdigest().encode()


def _place(content: mmap.mmap) -> int | None:
    """Return where the digits begin; None where there is no mark, or no room for digits behind it."""
    # From the end: Parquet keeps its texts there, behind columns that may hold anything.
    found = content.rfind(MARK.encode())
    place = found + len(MARK)
    return place if found >= 0 and place + DIGITS <= len(content) else None


def close_seal(path: Path) -> None:
    """Write the digits into a file that holds an open seal; raises ValueError where it holds none."""
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as content:
        place = _place(content)
        if place is None or content[place : place + DIGITS] != b"0" * DIGITS:
            raise ValueError(f"{path}: no open seal in it")
        content[place : place + DIGITS] = _digest(content, place)


def is_whole(path: Path) -> bool | None:
    """Return whether a file is the one that was sealed, byte for byte; None where it carries no seal."""
    with path.open("rb") as stream:
        if not stream.seek(0, 2):
            return None
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            place = _place(content)
            return None if place is None else content[place : place + DIGITS] == _digest(content, place)


def _sync(path: Path) -> None:
    if WINDOWS and path.is_dir():
        return  # it opens no folder
    descriptor = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _partial(path: Path, stem: str, suffix: str) -> Path:
    """Return this process's temporary path beside `path`, after deleting those that killed processes left there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = re.compile(re.escape(f".{stem}.partial-") + r"(\d+)" + re.escape(suffix))
    for other in path.parent.iterdir():
        if (found := name.fullmatch(other.name)) and not _runs(int(found[1])):
            shutil.rmtree(other) if other.is_dir() else other.unlink(missing_ok=True)
    return path.with_name(f".{stem}.partial-{os.getpid()}{suffix}")


def _runs(process: int) -> bool:
    """Return whether a process of this number runs on this machine; this one's leftovers do not count."""
    if process == os.getpid():
        return False
    if WINDOWS:
        return True  # nobody can be asked there: signal 0 would be Ctrl-C
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Give an error of the system that does not say which file it is about the name of `path`."""
    try:
        yield
    except OSError as problem:
        if problem.filename is None:
            problem.filename = str(path)
        raise


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it there, synced, when the block ends well."""
    # The suffix is kept at the end because libraries choose a format by it.
    partial = _partial(path, path.stem, path.suffix)
    try:
        with _named(path):
            yield partial
            _sync(partial)
            os.replace(partial, path)
            _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; it replaces `path` when the block ends well."""
    partial = _partial(path, path.name, "")
    partial.mkdir()
    try:
        with _named(path):
            yield partial
            for file in partial.rglob("*"):
                _sync(file)
            if path.exists():
                shutil.rmtree(path)
            os.replace(partial, path)
            _sync(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(content: Any, path: Path) -> None:
    """Write `content` as indented JSON; NaN and infinity are refused (they are not JSON)."""
    with whole_file(path) as partial:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file; raises InputError naming the file where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as problem:
        raise InputError(f"{path}: not valid JSON ({problem}); delete it and run again") from None


def _require_unrepeated(node: Any, path: Path) -> None:
    """Raise InputError at a key that stands twice in one mapping: YAML keeps the last of them and tells nobody."""
    lines: dict[str, int] = {}
    for part in getattr(node, "value", []) if not isinstance(getattr(node, "value", ""), str) else []:
        key, value = part if isinstance(part, tuple) else (None, part)
        if key is not None:
            line = key.start_mark.line + 1
            if str(key.value) in lines:
                first = lines[str(key.value)]
                raise InputError(f"{path}, line {line}: {key.value} is named twice (first: line {first}); keep one")
            lines[str(key.value)] = line
        _require_unrepeated(value, path)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file with keys at its top level; raises InputError naming file and line."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        _require_unrepeated(yaml.compose(text, Loader=yaml.SafeLoader), path)
        content = yaml.safe_load(text)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({problem.strerror})") from None
    except yaml.MarkedYAMLError as problem:
        line = f", line {problem.problem_mark.line + 1}" if problem.problem_mark else ""
        raise InputError(f"{path}{line}: not valid YAML ({problem.problem})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(problem).split())})") from None
    if not isinstance(content or {}, dict):
        raise InputError(f"{path}: expected lines `key: value`, found {type(content).__name__}")
    return content or {}


def line_of_key(path: Path, keys: Sequence[int | str]) -> tuple[int, int]:
    """Return how many of nested `keys` a YAML file holds, and the line of the innermost of these; (0, 0) for none."""
    import yaml

    depth, line = 0, 0
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, yaml.YAMLError, ValueError, RecursionError):
        return 0, 0
    for key in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = [(name, value) for name, value in pairs if name.value == str(key)]
        if not found:
            break
        depth, line, node = depth + 1, found[-1][0].start_mark.line + 1, found[-1][1]
    return depth, line


def is_there(path: Path) -> bool:
    """Return whether a file, a folder, or what a pattern such as `train-*.parquet` means exists."""
    return os.path.exists(path) or bool(set("*?[") & set(path.name) and any(path.parent.glob(path.name)))


def find_file(name: str, files: Sequence[Path]) -> Path:
    """Return a path from the working directory, or where nothing is there, from the folder of one of `files`.

    `~` at its beginning is the home folder, unless there is a file of this name. A pattern of names is a path too.
    """
    name = name if os.path.lexists(name) else os.path.expanduser(name)
    beside = [path for file in reversed(files) if is_there(path := file.parent / name)]
    if is_there(Path(name)):
        others = [path for path in beside if not (path.exists() and os.path.exists(name) and path.samefile(name))]
        if others:
            log.info("%s: taken from the working directory: %s, and not %s", name, os.path.abspath(name), others[0])
        return Path(name)
    if not beside:
        return Path(name)
    log.info("%s: found beside the file that names it: %s", name, beside[0])
    return Path(os.path.relpath(beside[0]))


def located(name: str, files: Sequence[Path]) -> str:
    """Return where `find_file` finds a path; as it is written where that is from here, or nowhere."""
    path = find_file(name, files)
    return name if path == Path(name) else str(path)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
