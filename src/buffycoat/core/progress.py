"""One line of progress every few seconds, in the log and on the terminal alike."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TextIO, TypeVar

T = TypeVar("T")
log = logging.getLogger("buffycoat")


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to whatever standard error is at the moment, as `print` does."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def start_logging() -> None:
    """Send log lines, with the time of day, to standard error."""
    logging.basicConfig(
        handlers=[_StandardError()],
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )


class Progress:
    """Counts things done out of `total` and logs a line at most every `every_s` seconds."""

    def __init__(self, what: str, total: int, unit: str = "images", every_s: float = 5.0) -> None:
        """Start the clock; `what` names the step, `unit` what is counted."""
        self.what, self.total, self.unit, self.every_s = what, total, unit, every_s
        self.done = 0
        self.started = self.last = time.monotonic()

    def step(self, n: int = 1) -> None:
        """Count `n` more; log a line when one is due."""
        self.done += n
        now = time.monotonic()
        if now - self.last >= self.every_s or self.done >= self.total:
            self.last = now
            log.info(self.line(now - self.started))

    def line(self, seconds: float) -> str:
        """Return the progress line after `seconds`."""
        rate = self.done / seconds if seconds > 0 else 0.0
        left = f", {(self.total - self.done) / rate:.0f} s left" if 0 < self.done < self.total and rate > 0 else ""
        return f"{self.what}: {self.done}/{self.total} {self.unit}, {rate:.1f}/s{left}"


def track(items: Iterable[T], what: str, unit: str = "images", total: int | None = None) -> Iterator[T]:
    """Yield the items one by one and log progress; `total` where the items have no length."""
    count = total if total is not None else len(items) if isinstance(items, Sized) else 0
    progress = Progress(what, count, unit)
    for item in items:
        yield item
        progress.step()
