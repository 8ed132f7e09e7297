"""Batches: made ahead by a thread, and all of one size, so that no image's result depends on how many others there are.

Libraries choose how they multiply matrices by their shapes, and rounding follows that choice. In a batch of a fixed
size no row's result depends on what the other rows hold; so the last batch is filled up.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from buffycoat.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("buffycoat")
T = TypeVar("T")

BLOCK = 1024
"""Rows at once."""


def filled(rows: Tensor, size: int) -> Tensor:
    """Return rows (n, ...) with zeros added up to `size` of them; as they are from that size on."""
    import torch

    if len(rows) >= size:
        return rows
    return torch.cat([rows, rows.new_zeros((size - len(rows), *rows.shape[1:]))])


def in_pieces(forward: Callable[[Tensor], Tensor], rows: Tensor, size: int, key: str) -> tuple[Tensor, int]:
    """Return what `forward` makes of all rows (n, ...), `size` at a time, the last ones filled up, and the size.

    Where memory ends the size is halved and the rows are begun anew, so that none is lost; raises InputError, naming
    the rule `key`, where a single one does not fit.
    """
    import torch

    while True:
        try:
            return torch.cat([forward(filled(piece, size))[: len(piece)] for piece in rows.split(size)]), size
        except torch.OutOfMemoryError:
            if size == 1:
                raise InputError(
                    f"{key}: out of GPU memory with a single image; free the GPU of other programs, or set a smaller"
                    " size_px or network"
                ) from None
        # Outside the handler, whose traceback holds on to the tensors that did not fit.
        size //= 2
        torch.cuda.empty_cache()
        log.warning("%s: out of memory, going on with %d images per forward pass", key, size)


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


class Prefetched(Generic[T]):
    """Yields make(number) for each number, in order; a thread makes the next `ahead` ones while this one is used.

    What `make` returns must depend on its number alone, so that the thread changes nothing but the waiting.
    """

    def __init__(self, make: Callable[[int], T], numbers: Iterable[int], ahead: int = 2) -> None:
        """Nothing is made before iteration begins."""
        self.make, self.numbers, self.ahead = make, numbers, ahead
        self.waited_s = 0.0
        """Seconds that the consumer has waited so far."""

    def __iter__(self) -> Iterator[T]:
        """Yield the items; what `make` raises is raised here, at its item."""
        numbers = iter(self.numbers)
        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
            waiting = deque(pool.submit(self.make, number) for number in islice(numbers, self.ahead))
            while waiting:
                started = time.perf_counter()
                ready = waiting.popleft().result()
                self.waited_s += time.perf_counter() - started
                waiting.extend(pool.submit(self.make, number) for number in islice(numbers, 1))
                yield ready
