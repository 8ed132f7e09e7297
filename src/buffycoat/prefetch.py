"""Making the next batch while this one is used, and counting what the user of the batches still had to wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")


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
