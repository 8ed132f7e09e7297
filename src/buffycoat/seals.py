"""Files that carry their own SHA-256, so that no damaged byte is ever used.

Somewhere in a file stands a mark and 64 hexadecimal digits: the SHA-256 of the file with zeros in the place of the
digits. Formats that keep texts beside their data (Parquet, safetensors) hold it without knowing.
"""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path

MARK = "buffycoat.sha256:"
DIGITS = 64
OPEN_SEAL = MARK + "0" * DIGITS
"""The text that whoever writes a file puts into it before `close_seal`."""


def _digest(content: mmap.mmap, place: int) -> bytes:
    """Return the digits for a file whose digits begin at `place`."""
    digest = hashlib.sha256()
    with memoryview(content) as view, view[:place] as before, view[place + DIGITS :] as after:
        digest.update(before)
        digest.update(b"0" * DIGITS)
        digest.update(after)
    return digest.hexdigest().encode()


def _place(content: mmap.mmap) -> int | None:
    """Return where the digits begin; None where there is no mark, or no room for digits behind it."""
    # From the end: Parquet keeps its texts there, behind columns that may hold anything.
    found = content.rfind(MARK.encode())
    place = found + len(MARK)
    return place if found >= 0 and place + DIGITS <= len(content) else None


def close_seal(path: Path) -> None:
    """Write the digits into a file that holds an open seal; raises ValueError where it holds none."""
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as content:
        place = _place(content)
        if place is None or content[place : place + DIGITS] != b"0" * DIGITS:
            raise ValueError(f"{path}: no open seal in it")
        content[place : place + DIGITS] = _digest(content, place)


def is_whole(path: Path) -> bool | None:
    """Return whether a file is the one that was sealed, byte for byte; None where it carries no seal."""
    with path.open("rb") as stream:
        if not stream.seek(0, 2):
            return None
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            place = _place(content)
            return None if place is None else content[place : place + DIGITS] == _digest(content, place)
