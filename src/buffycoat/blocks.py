"""Matrices worked on in blocks of one size, so that a row's result does not depend on the number of rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

BLOCK = 1024
"""Rows at once."""


def by_blocks(
    function: Callable[[npt.NDArray[np.floating]], npt.NDArray[np.float64]], rows: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Return what `function` makes of rows (n, D), n >= 1: (n, ...), BLOCK at a time, the last ones filled up."""
    parts = []
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        full = np.zeros((BLOCK, *rows.shape[1:]), rows.dtype)
        full[: len(block)] = block
        parts.append(function(full)[: len(block)])
    return np.concatenate(parts)
