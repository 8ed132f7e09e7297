from __future__ import annotations

import threading
import time

import pytest

from buffycoat.nets.batches import Prefetched


def test_prefetching_keeps_the_order_and_works_ahead_in_another_thread() -> None:
    seen: list[tuple[int, str]] = []

    def make(number: int) -> int:
        seen.append((number, threading.current_thread().name))
        return number * number

    assert list(Prefetched(make, range(3, 9))) == [k * k for k in range(3, 9)]
    assert [number for number, _ in seen] == list(range(3, 9))
    assert threading.current_thread().name not in {name for _, name in seen}
    assert list(Prefetched(make, range(0))) == []


def test_what_goes_wrong_in_the_thread_is_raised() -> None:
    def make(number: int) -> int:
        if number == 2:
            raise ValueError("the second")
        return number

    with pytest.raises(ValueError, match="the second"):
        list(Prefetched(make, range(5)))


def test_waiting_is_counted_and_work_ahead_is_not_waited_for() -> None:
    def slow(number: int) -> int:
        time.sleep(0.02)
        return number

    idle, busy = Prefetched(slow, range(8)), Prefetched(slow, range(8))
    assert list(idle) == list(range(8))
    for _ in busy:
        time.sleep(0.05)
    assert idle.waited_s > 0.1 > busy.waited_s


def test_it_can_be_left_early() -> None:
    for number in Prefetched(lambda number: number, range(100)):
        if number == 3:
            break
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
