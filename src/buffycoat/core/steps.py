"""A step's command line, made from its signature: one option per parameter, named once."""

from __future__ import annotations

import errno
import functools
import inspect
import json
import logging
import os
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import typer
from pydantic import ValidationError

from buffycoat.core.environment import name_extras
from buffycoat.core.errors import InputError, Interrupted
from buffycoat.core.progress import start_logging
from buffycoat.core.settings import RUNTIME_VARIABLE, Runtime, Settings

log = logging.getLogger("buffycoat")

ADVICE = {
    errno.ENOSPC: "no space left on the disk: free some and run again",
    errno.EDQUOT: "your quota of the disk is used up: free some and run again",
    errno.EFBIG: "larger than this system lets a file become (ulimit -f, or the file system): raise that and run again",
    errno.EROFS: "the disk is mounted read-only: put the results elsewhere (--directory)",
    errno.EACCES: "permission denied: give this user the right to it, or put the results elsewhere (--directory)",
    errno.EIO: "the disk reports an error: look after it first, then run again",
}
"""What to do about faults of the machine that a person can mend."""


def describe_validation(problem: ValidationError, where: str) -> str:
    """Return a pydantic error as one line: the keys at fault, what is wrong, what would be right."""
    parts = []
    for error in problem.errors(include_url=False):
        key = ".".join(str(part) for part in (where, *error["loc"]) if str(part))
        what = "unknown setting; see docs/configuration.md" if error["type"] == "extra_forbidden" else error["msg"]
        given = "" if isinstance(error["input"], dict) else f" (given: {error['input']!r})"
        parts.append(f"{key}: {what}{given}")
    return "; ".join(parts)


def _is_settings(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, Settings)


def _parse_settings(kind: type[Settings], name: str, text: str) -> Settings:
    try:
        return kind.model_validate(json.loads(text))
    except json.JSONDecodeError as problem:
        raise InputError(f"--{name}: not valid JSON ({problem})") from None
    except ValidationError as problem:
        raise InputError(describe_validation(problem, name)) from None


def _as_command(step: Callable[..., None]) -> Callable[..., None]:
    """Return `step` with its settings parameter taken as JSON text, and every parameter an option."""
    kinds = typing.get_type_hints(step)

    @functools.wraps(step)
    def command(**given: Any) -> None:
        for name, kind in kinds.items():
            if _is_settings(kind):
                given[name] = _parse_settings(kind, name, given[name])
        step(**given)

    parameters = []
    for parameter in inspect.signature(step).parameters.values():
        kind = kinds[parameter.name]
        shown = str if _is_settings(kind) else kind
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        if isinstance(default, Settings):
            default = default.model_dump_json()
        if kind is Runtime:
            default = os.environ.get(RUNTIME_VARIABLE, default)
        option = typer.Option(default, f"--{parameter.name.replace('_', '-')}")
        parameters.append(parameter.replace(annotation=shown, default=option))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _repeat_option_names(arguments: Sequence[str]) -> list[str]:
    """Turn `--logits a b c` into `--logits a --logits b --logits c` (Snakemake joins lists with spaces).

    An option without a value (an empty list of files) is dropped.
    """
    repeated: list[str] = []
    option = ""
    for argument in arguments:
        if argument == "--help" or (not option and not argument.startswith("--")):
            repeated.append(argument)
        elif argument.startswith("--"):
            option = argument
        else:
            repeated += [option, argument]
    return repeated


def run(step: Callable[..., None]) -> None:
    """Run a step from the command line; a fault of the input is one line on standard error and exit status 2."""
    start_logging()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(help=step.__doc__)(_as_command(step))
    try:
        with name_extras():
            app(args=_repeat_option_names(sys.argv[1:]), prog_name=f"python -m {step.__module__}")
    except InputError as problem:
        _give_up(step, str(problem))
    except Interrupted as problem:
        print(f"{step.__name__}: interrupted by {problem}", file=sys.stderr)
        # What a shell reports of a process that a signal ended: workflow engines and Slurm run it again.
        sys.exit(128 + problem.number)
    except OSError as problem:
        if problem.errno not in ADVICE:
            raise
        _give_up(step, f"{problem.filename or 'a file'}: {ADVICE[problem.errno]}")


def _give_up(step: Callable[..., None], said: str) -> NoReturn:
    """End the process with one line, whatever names it holds (a file's name may hold line breaks)."""
    print(f"{step.__name__}: error: {' '.join(said.splitlines())}", file=sys.stderr)
    sys.exit(2)
