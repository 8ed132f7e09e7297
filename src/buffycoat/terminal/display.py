"""What the terminal shows while the workflow runs: one line per job, a bar for those at work, the time that is left.

On a terminal the jobs at work stand below the finished ones and move. In a log file there is a line for each job that
ends, and every half minute one for each job that works for long.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from buffycoat.core.progress import WARNING, share_done

EVERY_S = 30.0
"""In a log file: seconds between two lines about jobs at work."""
PRIOR_S = 15.0
"""Estimated seconds of jobs at the estimated speed that count as seen: the first short job alone corrects little."""
NAME_WIDTH = 40
"""Characters of the column of jobs."""
WARNINGS = 8
"""Warnings of a finished job that are shown, at most."""
TAIL = 8192
"""Bytes at the end of a job's log that are looked at."""
REASONS = {
    "Missing output files": "not made yet",
    "Incomplete output files": "was interrupted",
    "Updated input files": "its input has changed",
    "Input files updated by another job": "its input is made again",
    "Set of input files has changed": "its list of inputs has changed",
    "Code has changed": "its code has changed",
    "Params have changed": "its settings, or the code that it uses, have changed",
    "Software environment": "its software has changed",
    "Forced execution": "asked for",
}
"""Beginnings of Snakemake's reasons to run a job, and what they mean."""


def duration(seconds: float) -> str:
    """Return seconds as a person says them: `8 s`, `3 min`, `2 h 10 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def plural(count: int, word: str) -> str:
    """Return a number of things: `1 job`, `2 jobs`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def reason_of(text: str) -> str:
    """Return in few words why Snakemake runs a job; empty for reasons that tell nothing more than others."""
    reasons = [words for start, words in REASONS.items() if start in text]
    return reasons[0] if "not made yet" in reasons else "; ".join(reasons)


def last_lines(path: Path) -> list[str]:
    """Return the last lines of a log, without the time of day; an empty list where there is none yet."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - TAIL))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [re.sub(r"^\d\d:\d\d:\d\d ", "", line.rstrip()) for line in text.splitlines() if line.strip()]


@dataclass
class Job:
    """A job at work. `name` is its rule with what tells it from others of the same rule."""

    name: str
    rule: str
    log: Path | None
    started: float
    reason: str = ""
    first_share: float | None = None
    first_seen: float = 0.0
    share: float | None = None
    note: str = ""

    def look(self, now: float) -> None:
        """Read from the job's log how far it is."""
        lines = last_lines(self.log) if self.log else []
        shares = [(share, line) for line in lines if (share := share_done(line)) is not None]
        if not shares:
            return
        self.share, self.note = shares[-1]
        if self.first_share is None:
            self.first_share, self.first_seen = self.share, now

    def left_s(self, now: float) -> float | None:
        """Return the seconds that the job still takes by its own speed; None while that is not known."""
        if self.share is None or self.first_share is None or self.share <= self.first_share:
            return None
        return (1 - self.share) * (now - self.first_seen) / (self.share - self.first_share)

    def about(self) -> str:
        """Return the last thing that the job said of its progress, without its own name."""
        return without_name(self.note, self.rule)


def without_name(line: str, rule: str) -> str:
    """Return a line of a log without the name of the step in front."""
    return re.sub(rf"^{re.escape(rule)}[:,] ", "", line)


def job_name(rule: str, wildcards: Mapping[str, str]) -> str:
    """Return how a job is called: its rule, and what tells it from the others of the same rule."""
    values = [str(value) for key, value in wildcards.items() if (key, str(value)) != ("scatteritem", "1-of-1")]
    return " ".join([rule, *values])


@dataclass
class Display:
    """Shows a run. Its methods are called by one thread; `clock` gives seconds, `moves` whether bars can move."""

    stream: TextIO
    moves: bool
    clock: Callable[[], float] = time.monotonic
    costs: dict[str, float | None] = field(default_factory=dict)
    """Estimated seconds of one job by rule; None where nothing is known."""
    total: int = 0
    done: int = 0
    waiting: Counter[str] = field(default_factory=Counter)
    """Jobs by rule that have not started yet."""
    running: dict[int, Job] = field(default_factory=dict)
    planned: list[Job] = field(default_factory=list)
    """Jobs of a dry run."""
    failures: int = 0
    interrupted: bool = False
    """Whether the run was asked to stop: what ends then has not failed."""
    estimated_s: float = 0.0
    taken_s: float = 0.0
    """Of the finished jobs: the estimated and the true seconds."""

    def __post_init__(self) -> None:
        """Make ready; nothing is shown yet."""
        self.console = Console(file=self.stream, highlight=False, soft_wrap=not self.moves, markup=False)
        self.lock = threading.RLock()
        self.live: Live | None = None
        self.began = self.clock()
        self.ended = threading.Event()

    # What happens

    def plan(self, counts: Mapping[str, int]) -> None:
        """Take the number of jobs by rule, and begin to show them."""
        with self.lock:
            self.waiting = Counter({rule: n for rule, n in counts.items() if rule != "total"})
            self.total = self.waiting.total()
            self.began = self.clock()
            words = plural(self.total, "job")
            if (left := self.left_s()) is not None:
                words += f", about {duration(left)} on this machine"
            left_column = "" if self.moves else f"{'still about':>12}  "
            self.say(f"{words}\n\n   done  {'job':<{NAME_WIDTH}} {'took':>7}  {left_column}".rstrip())
            if self.moves:
                self.live = Live(console=self.console, get_renderable=self.bars, refresh_per_second=2, transient=True)
                self.live.start()
            else:
                threading.Thread(target=self._report, daemon=True).start()

    def start(self, number: int, job: Job) -> None:
        """Take a job that starts."""
        with self.lock:
            self.running[number] = job
            self.waiting[job.rule] -= 1

    def finish(self, number: int) -> None:
        """Show that a job has ended well."""
        with self.lock:
            job = self.running.pop(number, None)
            if job is None:
                return
            now = self.clock()
            self.done += 1
            took = now - job.started
            if cost := self.costs.get(job.rule):
                self.estimated_s, self.taken_s = self.estimated_s + cost, self.taken_s + took
            # Where bars move, the time that is left stands below them.
            left = self.left_s() if self.done < self.total and not self.moves else None
            left_column = "" if self.moves else f"{duration(left) if left else '':>12}  "
            lines = last_lines(job.log) if job.log else []
            plain = [line for line in lines if not line.startswith(WARNING)]
            note = without_name(plain[-1], job.rule) if plain else ""
            place = f"{self.done}/{self.total}"
            shown = f"{place:>7}  {job.name:<{NAME_WIDTH}} {duration(took):>7}  {left_column}"
            self.say(self._cut(f"{shown}{note}".rstrip()))
            self._show_warnings(lines, job.log)

    def _show_warnings(self, lines: list[str], log: Path | None) -> None:
        """Show what a finished job warns of: a warning is for the moment when the run can still be stopped."""
        warnings = list(dict.fromkeys(line for line in lines if line.startswith(WARNING)))
        for line in warnings[:WARNINGS]:
            self.say(f"         {line}")
        if len(warnings) > WARNINGS:
            self.say(f"         and {len(warnings) - WARNINGS} more warnings: {log}")

    def fail(self, number: int, log: Path | None) -> None:
        """Show that a job has failed: its own words for it, and where the rest is."""
        with self.lock:
            job = self.running.pop(number, None)
            if self.interrupted:
                return
            name = job.name if job else f"job {number}"
            self.failures += 1
            log = log or (job.log if job else None)
            lines = last_lines(log) if log else []
            fault = next((line for line in reversed(lines) if ": error: " in line), lines[-1] if lines else "")
            self.say(f" failed  {name}: {fault or 'it ended without a word'}")
            if log:
                self.say(f"         its log: {log}")

    def interrupt(self) -> None:
        """Say that the run stops because it was asked to."""
        if not self.interrupted:
            self.interrupted = True
            self.say("stopping: a training stores its state first, which may take half a minute")

    def again(self, number: int, job: Job) -> None:
        """Take a job that starts once more."""
        with self.lock:
            self.running[number] = job

    def say(self, text: str) -> None:
        """Show a text above the bars."""
        with self.lock:
            if text:
                # In a window, lines break between words; in a log file they stay whole.
                self.console.print(text, soft_wrap=not self.moves)

    def close(self) -> None:
        """End the bars; say how long it took."""
        with self.lock:
            if self.ended.is_set():
                return  # Snakemake closes its handlers more than once
            self.ended.set()
            if self.live:
                self.live.stop()
                self.live = None
            if self.planned:
                self._show_plan()
            if self.total and self.done == self.total:
                self.say(f"done in {duration(self.clock() - self.began)}")
            elif self.interrupted:
                self.say(
                    f"stopped after {self.done} of {plural(self.total, 'job')}; the same command goes on from there"
                )
            elif self.failures:
                self.say("stopped. Mend what failed and type the same again: it goes on where it stopped.")

    # What is computed

    def speed(self) -> float:
        """Return by how much jobs take longer than estimated: 1 where they take just as long."""
        return (self.taken_s + PRIOR_S) / (self.estimated_s + PRIOR_S)

    def left_s(self) -> float | None:
        """Return the seconds until all is done, one job after the other; None where too little is known."""
        with self.lock:
            now, speed, left = self.clock(), self.speed(), 0.0
            for rule, count in self.waiting.items():
                cost = self.costs.get(rule, 0.0)
                if cost is None and count:
                    return None
                left += (cost or 0.0) * count * speed
            for job in self.running.values():
                own, cost = job.left_s(now), self.costs.get(job.rule, 0.0)
                if own is None and cost is None:
                    return None
                left += own if own is not None else max((cost or 0.0) * speed - (now - job.started), 0.0)
            return left if left > 0 else None

    def bars(self) -> RenderableType:
        """Return a line with a bar for each job at work, and one for the whole."""
        with self.lock:
            now = self.clock()
            grid = Table.grid(padding=(0, 1))
            for job in list(self.running.values()):
                job.look(now)
                # No bar before the job has said how far it is: a full or an empty one would say something.
                bar = ProgressBar(total=1.0, completed=job.share, width=24) if job.share is not None else ""
                grid.add_row("      ▸ ", job.name, bar, self._state(job, now))
            left = self.left_s()
            about = f", about {duration(left)} left" if left else ""
            whole = Text(f"  {self.done} of {self.total} jobs after {duration(now - self.began)}{about}", style="dim")
            return Group(grid, whole)

    def _state(self, job: Job, now: float) -> str:
        left = job.left_s(now)
        parts = [duration(now - job.started)]
        parts += [f"{100 * job.share:.0f} %"] if job.share is not None else []
        if job.share is not None and job.share >= 1:
            parts += ["writing what it made"]
        elif left is not None:
            parts += [f"about {duration(left)} left"]
        return self._cut(", ".join(parts), 40)

    def _cut(self, line: str, width: int = 0) -> str:
        """Return a line that fits the terminal; in a log file it stays short too."""
        width = width or (self.console.width if self.moves else 120)
        return line if len(line) <= width else f"{line[: width - 1]}…"

    def _report(self) -> None:
        """Say from time to time how far the jobs at work are, until the run ends."""
        while not self.ended.wait(EVERY_S):
            with self.lock:
                now = self.clock()
                for job in list(self.running.values()):
                    job.look(now)
                    if now - job.started >= EVERY_S:
                        note = f": {job.about()}" if job.note else ""
                        self.say(self._cut(f"     at  {job.name}: {self._state(job, now)}{note}"))

    # Dry runs

    def _show_plan(self) -> None:
        """Show the jobs of a dry run, by rule, with the reasons."""
        rules = list(dict.fromkeys(job.rule for job in self.planned))
        self.say(f"{plural(len(self.planned), 'job')} would run:")
        for rule in rules:
            jobs = [job for job in self.planned if job.rule == rule]
            reasons = Counter(part for job in jobs for part in job.reason.split("; ") if part)
            self.say(f"  {rule:<22} {len(jobs):>4}   {', '.join(reasons)}")
        self.waiting = Counter(job.rule for job in self.planned)
        if (left := self.left_s()) is not None:
            self.say(f"about {duration(left)} on this machine")
        self.say("dry run: nothing was done; the command without -n runs it")


def stream_of(dry_run: bool) -> TextIO:
    """Return where a run is shown: a dry run is an answer, a run's progress is not."""
    return sys.stdout if dry_run else sys.stderr
