"""Hands what happens in Snakemake to buffycoat's terminal: `snakemake --logger buffycoat`.

Snakemake finds the plugin by the name of this package.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from buffycoat.terminal.display import Display, Job, job_name, reason_of, stream_of
from buffycoat.terminal.outlook import REPORT, SUMMARY, headline

NOTHING = "Nothing to be done"
WHOLE = "At least one job did not complete successfully."
"""What Snakemake says last of a run with a failed job, which the lines of the jobs have told."""


class LogHandler(LogHandlerBase):
    """Shows a run to a person; Snakemake's own log file keeps everything that is left out."""

    def __post_init__(self) -> None:
        """Make the display; Snakemake says whether it is a dry run."""
        stream = stream_of(self.common_settings.dryrun)
        moves = stream.isatty() and os.environ.get("TERM") != "dumb" and not self.common_settings.dryrun
        self.display = Display(stream, moves)
        self.events = {
            LogEvent.RUN_INFO: self._plan,
            LogEvent.JOB_INFO: self._start,
            LogEvent.JOB_FINISHED: self._finish,
            LogEvent.JOB_ERROR: self._fail,
            LogEvent.ERROR: self._report_error,
        }
        self.jobs: dict[int, Job] = {}
        if threading.current_thread() is threading.main_thread():
            self._listen_for_interrupts()

    def _listen_for_interrupts(self) -> None:
        """Tell the display of Ctrl-C before the jobs, which get it too, end with errors."""
        before = signal.getsignal(signal.SIGINT)
        if not callable(before):
            return  # a run in the background hears no Ctrl-C

        def interrupt(number: int, frame: FrameType | None) -> None:
            self.display.interrupt()
            before(number, frame)

        signal.signal(signal.SIGINT, interrupt)

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record; events that tell a person nothing are left out."""
        event = getattr(record, "event", None)
        if hasattr(record, "costs"):
            # Our own lines, for a person; the first ones bring what jobs may cost.
            self.display.costs = record.costs or self.display.costs
            self.display.say(record.getMessage())
        elif event in self.events:
            self.events[event](record)
        elif event is None:
            self._read_text(record)

    def close(self) -> None:
        """End the display."""
        self.display.close()
        super().close()

    def _plan(self, record: Any) -> None:
        if self.common_settings.dryrun:
            return
        # The output of jobs is in their logs. Whoever wants it here too runs without this plugin.
        sys.stdout.flush()
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        self.display.plan({rule: int(count) for rule, count in record.stats.items() if rule not in ("all", "total")})

    def _start(self, record: Any) -> None:
        number, logs = record.jobid, list(record.log or [])
        name = job_name(record.rule_name, record.wildcards or {})
        job = Job(name, record.rule_name, Path(logs[0]) if logs else None, self.display.clock())
        job.reason = reason_of(record.reason or "")
        if not record.output and not logs:
            return  # a target, which makes nothing
        if self.common_settings.dryrun:
            self.display.planned.append(job)
        elif number in self.jobs:
            self.display.again(number, job)
        else:
            self.display.start(number, job)
        self.jobs[number] = job

    def _finish(self, record: Any) -> None:
        self.display.finish(record.job_id)

    def _fail(self, record: Any) -> None:
        logs = [name.split(" ")[0] for name in record.log or []]
        self.display.fail(record.jobid, Path(logs[0]) if logs else None)

    def _report_error(self, record: Any) -> None:
        text = record.getMessage().strip()
        if WHOLE not in text and not self.display.interrupted:
            self.display.say(text)

    def _read_text(self, record: logging.LogRecord) -> None:
        text = record.getMessage().strip()
        if NOTHING in text:
            self.display.say("nothing to do: every result is up to date")
            if not self.common_settings.dryrun:
                self.display.say(headline(SUMMARY, REPORT))
        elif record.levelno >= logging.WARNING or text.startswith(("Trying to restart", "Unlocked")):
            self.display.say(text)

    @property
    def writes_to_stream(self) -> bool:
        """It takes the place of Snakemake's own lines on the terminal."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """It writes no file."""
        return False

    @property
    def has_filter(self) -> bool:
        """It chooses by itself what is shown."""
        return True

    @property
    def has_formatter(self) -> bool:
        """It formats by itself."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """It draws no graph."""
        return False
