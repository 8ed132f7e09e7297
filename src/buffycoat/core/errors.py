"""The one kind of error that a user can mend: it names the file, row or key, and what to do."""

from __future__ import annotations

import signal


class InputError(Exception):
    """Something the user gave is wrong; the message names it and says what to do about it."""


class Interrupted(Exception):
    """The system asked the process to end, and its state is stored; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        """Keep the signal's number."""
        super().__init__(f"{signal.Signals(number).name}: the state is stored; run again to continue")
        self.number = number
