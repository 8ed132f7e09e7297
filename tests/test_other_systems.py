"""macOS and Windows lack calls that Linux has: prediction does without them. Simulated here, never run there."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from buffycoat import config
from buffycoat.core import environment, files
from buffycoat.nets import device

ABSENT = """
import os, signal, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
for name in ("sched_getaffinity", "getuid", "geteuid", "sysconf"):
    delattr(os, name)
del signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP
os.environ["USERNAME"] = "somebody"
"""
"""Run first in a fresh Python: it then lacks what Windows lacks, as far as Python itself can do without."""


def run_without(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", ABSENT + code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_everything_that_predict_and_doctor_import_can_be_imported() -> None:
    run_without("import buffycoat, buffycoat.cli, buffycoat.bundle.predictor, buffycoat.terminal.doctor")


def test_doctor_works() -> None:
    code = "from buffycoat.terminal import doctor\nfor finding in doctor.findings(): print(finding)"
    result = run_without(code)
    assert "memory: unknown" in result and "cores: " in result


def test_cores_are_those_of_the_machine_where_the_process_has_none_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert environment.cores() == os.cpu_count()


def test_memory_is_unknown_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (environment.memory_gib() or 0) > 0
    monkeypatch.setattr(os, "sysconf", int)  # a name that it does not know is a ValueError
    assert environment.memory_gib() is None
    monkeypatch.delattr(os, "sysconf")
    assert environment.memory_gib() is None


def test_the_first_gpu_is_taken_where_there_are_no_locks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device, "fcntl", None)
    assert device.claim_gpu(["0", "1"], tmp_path / "locks") == "0"
    assert not (tmp_path / "locks").exists()


def test_a_c_library_that_cannot_be_opened_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: Any) -> None:
        raise TypeError("argument of type 'NoneType' is not iterable")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    device.keep_freed_memory()


def test_there_may_be_no_warning_to_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGUSR1")
    config.keep_warnings_for_trainings()


def test_files_are_whole_where_no_folder_can_be_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def open_files_alone(path: Path, flags: int, *mode: int) -> int:
        # What Windows does: no folder is opened, and what is synced must be open for writing.
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", str(path))
        assert flags & os.O_RDWR
        return real(path, flags, *mode)

    def never(process: int, number: int) -> None:
        raise AssertionError("signal 0 is Ctrl-C there")

    real = os.open
    (tmp_path / ".table.partial-1.csv").write_text("of another process")
    with files.whole_file(tmp_path / "table.csv") as partial:
        monkeypatch.setattr(files, "WINDOWS", True)
        monkeypatch.setattr(files.os, "open", open_files_alone)
        monkeypatch.setattr(files.os, "kill", never)
        partial.write_text("1")
    with files.whole_folder(tmp_path / "folder") as folder:
        (folder / "inside").mkdir()
        (folder / "inside" / "a.txt").write_text("2")
    assert (tmp_path / "table.csv").read_text() == "1"
    assert (tmp_path / "folder" / "inside" / "a.txt").read_text() == "2"
