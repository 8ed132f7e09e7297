"""One line of progress every few seconds, in the log and on the terminal alike."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TextIO, TypeVar

T = TypeVar("T")
log = logging.getLogger("buffycoat")
WARNING = "warning: "
"""How the line of a warning begins in a log."""


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to whatever standard error is at the moment, as `print` does."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _Marked(logging.Formatter):
    """Begins a warning with its name, so that it is seen, and found by what shows a log."""

    def format(self, record: logging.LogRecord) -> str:
        if record.levelno >= logging.WARNING:
            record = logging.makeLogRecord({**vars(record), "msg": f"{WARNING}{record.getMessage()}", "args": None})
        return super().format(record)


def start_logging() -> None:
    """Send log lines, with the time of day, to standard error; a warning begins with the word."""
    handler = _StandardError()
    handler.setFormatter(_Marked("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)


BURST_S = 0.2
"""Things that come this soon after the first one were done together with it."""


class Progress:
    """Counts things done out of `total` and logs a line at most every `every_s` seconds."""

    def __init__(self, what: str, total: int, unit: str = "images", every_s: float = 5.0) -> None:
        """Start the clock; `what` names the step, `unit` what is counted."""
        self.what, self.total, self.unit, self.every_s = what, total, unit, every_s
        self.done = 0
        self.first = 0
        """Things done when the clock of the rate started: the first ones wait for the network to be loaded."""
        self.started = self.last = self.clock = time.monotonic()

    def count(self, n: int = 1) -> float:
        """Count `n` more; return the time, in seconds of the monotonic clock."""
        now = time.monotonic()
        self.done += n
        if not self.first:
            self.clock = now
        if now - self.clock <= BURST_S:
            self.first = self.done
        return now

    def step(self, n: int = 1) -> None:
        """Count `n` more; log a line when one is due."""
        now = self.count(n)
        if now - self.last >= self.every_s or self.done >= self.total:
            self.last = now
            log.info(self.line(now))

    def line(self, now: float) -> str:
        """Return the progress line at `now`, in seconds of the monotonic clock.

        The rate is that after the first things done: before these, time went into starting. Where nothing else is done
        yet, the line tells no rate while the work goes on.
        """
        count, seconds = self.done - self.first, now - self.clock
        if not count and self.done >= self.total:
            count, seconds = self.done, now - self.started
        shown = f"{self.what}: {self.done}/{self.total} {self.unit}"
        if count <= 0 or seconds <= 0:
            return shown
        rate = count / seconds
        left = f", {(self.total - self.done) / rate:.0f} s left" if self.done < self.total else ""
        return f"{shown}, {rate:.1f}/s{left}"


def track(items: Iterable[T], what: str, unit: str = "images", total: int | None = None) -> Iterator[T]:
    """Yield the items one by one and log progress; `total` where the items have no length."""
    count = total if total is not None else len(items) if isinstance(items, Sized) else 0
    progress = Progress(what, count, unit)
    for item in items:
        yield item
        progress.step()


COUNT = re.compile(r"(?<![\d/])(\d+)/(\d+) [a-z]")
STAGE = re.compile(r"\b(?:epoch|step) (\d+)/(\d+)")


def share_done(line: str) -> float | None:
    """Return how much of a step is done, from 0 to 1, by a line that it logged; None where the line does not tell.

    Understood are the lines of `Progress` (`crop_cells: 25/100 images, ...`), also inside an epoch (`train_fold,
    epoch 3/12: 64/640 images, ...`), and those of finished epochs and steps (`epoch 3/12: train loss ...`).
    """
    stage, count = STAGE.search(line), COUNT.search(line)
    inside = int(count[1]) / max(int(count[2]), 1) if count else None
    if stage is None:
        return inside
    # An epoch that still counts images is not finished; any other line tells of a finished one.
    whole = int(stage[1]) - (1 if inside is not None else 0)
    return min((whole + (inside or 0.0)) / max(int(stage[2]), 1), 1.0)
