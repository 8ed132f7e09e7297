from __future__ import annotations

import errno
import json
import sys
from pathlib import Path

import pytest

from buffycoat.core.errors import InputError
from buffycoat.core.settings import RUNTIME_VARIABLE, Runtime, Settings
from buffycoat.core.steps import _repeat_option_names, run


class Some(Settings):
    width: int = 3


SEEN: dict[str, object] = {}


def some_step(*, table: Path, logits: list[Path], extra: list[Path] | None = None, fold: int, settings: Some) -> None:
    """Do something."""
    SEEN.update(table=table, logits=logits, extra=extra, fold=fold, settings=settings)
    if fold == 13:
        raise InputError("cells.csv: line 3: wrong; mend it")
    if fold == 28:
        raise OSError(errno.ENOSPC, "No space left on device", "out.parquet")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["some_step", *arguments])
    with pytest.raises(SystemExit) as caught:
        run(some_step)
    return int(str(caught.value.code or 0))


BASE = ["--table", "a b.parquet", "--logits", "1", "2", "3", "--extra", "--fold", "4", "--settings"]


def test_the_command_line_is_the_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, *BASE, '{"width": 7}') == 0
    assert SEEN == {"table": Path("a b.parquet"), "logits": [Path("1"), Path("2"), Path("3")], "extra": None, "fold": 4,
                    "settings": Some(width=7)}  # fmt: skip


@pytest.mark.parametrize("fold", [13, 28])
def test_a_fault_of_the_input_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fold: int
) -> None:
    arguments = [*BASE, "{}"]
    arguments[arguments.index("4")] = str(fold)
    assert call(monkeypatch, *arguments) == 2
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert ("cells.csv: line 3" if fold == 13 else "out.parquet: no space left on the disk") in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "--settings: not valid JSON"),
        ('{"widht": 3}', "settings.widht: unknown setting"),
        ('{"width": "wide"}', "settings.width: Input should be a valid integer"),
    ],
)
def test_bad_settings_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    assert call(monkeypatch, *BASE, text) == 2
    assert message in capsys.readouterr().err


def test_lists_are_repeated_and_empty_ones_dropped() -> None:
    assert _repeat_option_names(["--a", "1", "2", "--b", "--c", json.dumps({})]) == [
        "--a", "1", "--a", "2", "--c", "{}",
    ]  # fmt: skip


def heeds(*, out: Path, runtime: Runtime = Runtime()) -> None:  # noqa: B008
    """Write what the machine is told."""
    out.write_text(runtime.model_dump_json())


@pytest.mark.parametrize(
    ("variable", "option", "expected"),
    [
        (None, None, 5.0),
        ('{"checkpoint_minutes": 7}', None, 7.0),
        ('{"checkpoint_minutes": 7}', '{"checkpoint_minutes": 9}', 9.0),
    ],
)
def test_settings_of_the_machine_come_by_the_environment_or_by_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None, option: str | None, expected: float
) -> None:
    monkeypatch.delenv(RUNTIME_VARIABLE, raising=False)
    if variable:
        monkeypatch.setenv(RUNTIME_VARIABLE, variable)
    arguments = ["step", "--out", str(tmp_path / "out"), *(["--runtime", option] if option else [])]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        run(heeds)
    assert ended.value.code == 0
    assert Runtime.model_validate_json((tmp_path / "out").read_text()).checkpoint_minutes == expected
