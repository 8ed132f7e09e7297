"""The one kind of error that a user can mend: it names the file, row or key, and what to do."""

from __future__ import annotations


class InputError(Exception):
    """Something the user gave is wrong; the message names it and says what to do about it."""
