"""What the terminal shows of a run, from the events alone."""

from __future__ import annotations

import io
import logging
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from buffycoat.terminal.display import Display, Job, duration, job_name, last_lines, reason_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def display(clock: Clock) -> Display:
    made = Display(io.StringIO(), moves=False, clock=clock)
    made.costs = {"crop_cells": 10.0, "train_fold": 40.0}
    return made


def text_of(display: Display) -> str:
    assert isinstance(display.stream, io.StringIO)
    return display.stream.getvalue()


def work(display: Display, clock: Clock, number: int, rule: str, seconds: float, log: Path | None = None) -> None:
    display.start(number, Job(rule, rule, log, clock()))
    clock.now += seconds
    display.finish(number)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (8, "8 s"), (99, "99 s"), (100, "2 min"), (7100, "118 min"), (7800, "2 h 10 min")],
)
def test_times_are_said_as_a_person_says_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_job_is_one_line_with_what_it_said_last(display: Display, clock: Clock, tmp_path: Path) -> None:
    log = tmp_path / "crop.log"
    log.write_text("12:00:00 device: CPU\n12:00:05 crop_cells: 150/150 images, 33.0/s\n")
    display.plan({"crop_cells": 1, "train_fold": 2, "total": 3})
    work(display, clock, 1, "crop_cells", 10, log)
    lines = text_of(display).splitlines()
    assert lines[0] == "3 jobs, about 90 s on this machine"
    assert lines[-1].split() == ["1/3", "crop_cells", "10", "s", "80", "s", "150/150", "images,", "33.0/s"]
    assert str(log) not in text_of(display)


def test_the_time_left_follows_the_speed_seen(display: Display, clock: Clock) -> None:
    display.plan({"crop_cells": 1, "train_fold": 1})
    assert display.left_s() == pytest.approx(50)
    work(display, clock, 1, "crop_cells", 60)
    assert display.left_s() == pytest.approx(40 * (60 + 15) / (10 + 15)), "three times slower than estimated"


def test_a_job_tells_its_own_time_left_where_it_can(display: Display, clock: Clock, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    display.plan({"train_fold": 1})
    job = Job("train_fold", "train_fold", log, clock())
    display.start(1, job)
    clock.now = 20
    log.write_text("train_fold, epoch 1/4: 0/64 images\n")
    job.look(clock())
    assert job.left_s(clock()) is None, "one look tells no speed"
    clock.now = 30
    log.write_text("train_fold, epoch 2/4: 0/64 images, 6.4/s\n")
    job.look(clock())
    assert job.left_s(clock()) == pytest.approx(30) and display.left_s() == pytest.approx(30)
    console = Console(file=io.StringIO(), width=120)
    console.print(display.bars())
    assert "25 %, about 30 s left" in console.file.getvalue()  # type: ignore[attr-defined]


def test_what_is_not_known_is_not_guessed(display: Display, clock: Clock) -> None:
    display.costs["train_fold"] = None
    display.plan({"crop_cells": 1, "train_fold": 1})
    assert text_of(display).startswith("2 jobs\n")
    work(display, clock, 1, "crop_cells", 10)
    work(display, clock, 2, "train_fold", 10)
    display.close()
    assert "about" not in text_of(display).replace("still about", "") and "done in 20 s" in text_of(display)


def test_a_failed_job_says_its_error_and_where_its_log_is(display: Display, clock: Clock, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("12:00:00 device: CPU\ntrain_fold: error: the loss became nan: lower learning_rate\nNothing else\n")
    display.plan({"train_fold": 1})
    display.start(1, Job("train_fold keep focal 0", "train_fold", log, clock()))
    display.fail(1, None)
    display.close()
    shown = text_of(display)
    assert "failed  train_fold keep focal 0: train_fold: error: the loss became nan: lower learning_rate" in shown
    assert f"its log: {log}" in shown and "type the same again" in shown and "done in" not in shown


def test_a_job_without_a_log_fails_with_a_line_too(display: Display, clock: Clock) -> None:
    display.plan({"train_fold": 1})
    display.fail(7, None)
    assert "failed  job 7: it ended without a word" in text_of(display)


def test_what_was_asked_to_stop_has_not_failed(display: Display, clock: Clock) -> None:
    display.plan({"crop_cells": 1, "train_fold": 2})
    work(display, clock, 1, "crop_cells", 10)
    display.start(2, Job("train_fold 0", "train_fold", None, clock()))
    display.interrupt()
    display.interrupt()
    display.fail(2, None)
    display.close()
    shown = text_of(display)
    assert shown.count("stopping: a training stores its state first") == 1
    assert "stopped after 1 of 3 jobs; the same command goes on from there" in shown
    assert "failed" not in shown and "Mend" not in shown


def test_where_bars_move_the_time_left_stands_below_them_alone(clock: Clock) -> None:
    display = Display(io.StringIO(), moves=True, clock=clock, costs={"crop_cells": 10.0})
    display.plan({"crop_cells": 2})
    work(display, clock, 1, "crop_cells", 10)
    display.close()
    assert "still about" not in text_of(display)
    console = Console(file=io.StringIO(), width=120)
    console.print(display.bars())
    assert "1 of 2 jobs after 10 s, about 10 s left" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_job_that_has_counted_everything_still_writes(clock: Clock, display: Display) -> None:
    job = Job("crop_cells", "crop_cells", None, 0.0, share=1.0, first_share=0.1, first_seen=0.0)
    display.start(1, job)
    clock.now = 9
    console = Console(file=io.StringIO(), width=120)
    console.print(display.bars())
    assert "100 %, writing what it made" in console.file.getvalue()  # type: ignore[attr-defined]


def test_names_leave_out_the_only_portion() -> None:
    assert job_name("crop_cells", {"scatteritem": "1-of-1"}) == "crop_cells"
    assert job_name("crop_cells", {"scatteritem": "2-of-3"}) == "crop_cells 2-of-3"
    assert job_name("train_fold", {"restoration": "keep", "recipe": "focal", "fold": "0"}) == "train_fold keep focal 0"


def test_reasons_are_in_plain_words() -> None:
    assert reason_of("Missing output files: a; Input files updated by another job: b") == "not made yet"
    assert reason_of("Params have changed since last execution: {'before': 1}; Updated input files: x") == (
        "its input has changed; its settings, or the code that it uses, have changed"
    )
    assert reason_of("something new") == ""


def test_the_end_of_a_long_log_is_enough(tmp_path: Path) -> None:
    log = tmp_path / "long.log"
    log.write_text("x" * 100_000 + "\n12:34:56 the last line\n\n")
    assert last_lines(log)[-1] == "the last line"
    assert last_lines(tmp_path / "none.log") == []


# The plugin: Snakemake's records, as it makes them


def handler(dryrun: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, io.StringIO]:
    plugin = pytest.importorskip("snakemake_logger_plugin_buffycoat")
    stream = io.StringIO()
    monkeypatch.setattr(plugin, "stream_of", lambda _: stream)
    monkeypatch.setattr(plugin.os, "dup2", lambda *_: None)
    settings = SimpleNamespace(dryrun=dryrun)
    return plugin.LogHandler(settings, None), stream


def record(text: str | None = "", level: int = logging.INFO, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("snakemake.logging", level, "", 0, text, None, None)
    for key, value in extra.items():
        setattr(made, key, value)
    return made


def job_info(number: int, rule: str, reason: str = "", **wildcards: str) -> logging.LogRecord:
    return record(event="job_info", jobid=number, rule_name=rule, wildcards=wildcards, log=[f"{rule}.log"],
                  output=["x"], reason=reason)  # fmt: skip


def test_a_run_by_snakemakes_records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    shown, stream = handler(False, monkeypatch)
    for each in [
        record("Assuming unrestricted shared filesystem usage."),
        record("preset laptop", costs={"crop_cells": 3.0}),
        record("Job stats", event="run_info", stats={"crop_cells": 1, "all": 1, "total": 2}),
        record("Select jobs to execute..."),
        job_info(1, "crop_cells", scatteritem="1-of-1"),
        record("python -m buffycoat.crop.crop_cells", event="shellcmd"),
        record("Finished", event="job_finished", job_id=1),
        record(event="job_info", jobid=0, rule_name="all", wildcards={}, log=[], output=[], reason=""),
        record("Finished", event="job_finished", job_id=0),
        record("macro-F1", costs=None),
    ]:
        shown.emit(each)
    shown.close()
    shown.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "preset laptop" and lines[1].startswith("1 job, about 3 s")
    assert lines[4].split()[:2] == ["1/1", "crop_cells"]
    assert lines[5:] == ["macro-F1", "done in 0 s"]


def test_failures_and_warnings_by_snakemakes_records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crop_cells.log").write_text("crop_cells: error: x.png: no such file\n")
    shown, stream = handler(False, monkeypatch)
    for each in [
        record("Job stats", event="run_info", stats={"crop_cells": 1, "total": 1}),
        job_info(1, "crop_cells"),
        record("Error", logging.ERROR, event="job_error", jobid=1, log=["crop_cells.log"]),
        record("Trying to restart job 1."),
        job_info(1, "crop_cells"),
        record("Error", logging.ERROR, event="job_error", jobid=1, log=["crop_cells.log"]),
        record("a disk is nearly full", logging.WARNING),
        record("WorkflowError:\nAt least one job did not complete successfully.", logging.ERROR, event="error"),
    ]:
        shown.emit(each)
    shown.close()
    text = stream.getvalue()
    assert text.count("failed  crop_cells: crop_cells: error: x.png: no such file") == 2
    assert "Trying to restart job 1." in text and "a disk is nearly full" in text
    assert "At least one job" not in text


def test_ctrl_c_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    # A process in the background is started deaf to it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        shown, stream = handler(False, monkeypatch)
        shown.emit(record("Job stats", event="run_info", stats={"crop_cells": 1, "total": 1}))
        shown.emit(job_info(1, "crop_cells"))
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        for each in [
            record("RuleException: CalledProcessError in file 2_crop.smk", logging.ERROR, event="error"),
            record("Error", logging.ERROR, event="job_error", jobid=1, log=["crop_cells.log"]),
            record("Terminating processes on user request, this might take some time."),
        ]:
            shown.emit(each)
        shown.close()
    finally:
        signal.signal(signal.SIGINT, before)
    assert stream.getvalue().splitlines()[-2:] == [
        "stopping: a training stores its state first, which may take half a minute",
        "stopped after 0 of 1 job; the same command goes on from there",
    ]


def test_other_errors_are_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, stream = handler(False, monkeypatch)
    shown.emit(record("MissingInputException: no rule for x.csv", logging.ERROR, event="error"))
    assert "MissingInputException: no rule for x.csv" in stream.getvalue()


def test_a_dry_run_is_a_table_of_rules_with_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, stream = handler(True, monkeypatch)
    shown.emit(record("preset", costs={"crop_cells": 10.0, "train_fold": 25.0}))
    for number, rule in enumerate(["crop_cells", "train_fold", "train_fold"]):
        shown.emit(job_info(number, rule, "Missing output files: y" if number else "Code has changed", n=str(number)))
    shown.close()
    lines = stream.getvalue().splitlines()
    assert lines[1] == "3 jobs would run:"
    assert lines[2].split() == ["crop_cells", "1", *"its code has changed".split()]
    assert lines[3].split() == ["train_fold", "2", *"not made yet".split()]
    assert lines[4:] == ["about 60 s on this machine", "dry run: nothing was done; the command without -n runs it"]


def test_nothing_to_do_is_said_with_the_last_scores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    shown, stream = handler(False, monkeypatch)
    shown.emit(record("Nothing to be done (all requested files are present and up to date)."))
    assert stream.getvalue() == "nothing to do: every result is up to date\n"


def test_warnings_of_a_finished_job_stand_below_it(display: Display, clock: Clock, tmp_path: Path) -> None:
    log = tmp_path / "labels.log"
    warned = [f"12:00:01 warning: patient p{k} is on both sides\n" for k in range(10)]
    log.write_text("12:00:00 24 images: 24 ok\n" + warned[0] + "".join(warned))
    display.plan({"make_labels": 1})
    work(display, clock, 1, "make_labels", 1, log)
    lines = text_of(display).splitlines()
    start = next(k for k, line in enumerate(lines) if "make_labels" in line)
    assert lines[start].endswith("24 images: 24 ok"), "the job's line is no warning"
    assert lines[start + 1].strip() == "warning: patient p0 is on both sides"
    assert lines[start + 8].strip() == "warning: patient p7 is on both sides"
    assert lines[start + 9].strip() == f"and 2 more warnings: {log}"
