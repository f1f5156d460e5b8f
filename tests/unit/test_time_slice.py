"""A thread may ask for a time slice of its own, where the kernel knows of them."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from consumer import time_slice
from consumer.clock import SystemClock
from consumer.reception.subscriber import Subscriber
from consumer.time_slice import LONGEST_NS, SHORTEST_NS, set_slice, slice_of

Answer = TypeVar("Answer")


def in_a_thread(work: Callable[[], Answer]) -> Answer:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def io_threads() -> set[int]:
    """Native ids of the threads of ZeroMQ that read and write sockets."""
    return {
        int(task.name)
        for task in Path("/proc/self/task").iterdir()
        if name_of(task).startswith("ZMQbg/IO")
    }


def name_of(task: Path) -> str:
    """The name of a thread, empty for one that an earlier test started and that ended since it was listed."""
    try:
        return (task / "comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def started_since(before: set[int]) -> set[int]:
    """Those that are new. A thread gives itself its name, some time after it was started."""
    end = time.monotonic() + 10
    while not (found := io_threads() - before) and time.monotonic() < end:
        time.sleep(0.001)
    return found


def asked_for(slice_ns: int) -> tuple[int | None, bool, int | None, int | None]:
    """Slice before, whether it was given, after, and of a thread started then."""
    before = slice_of()
    given = set_slice(slice_ns)
    return before, given, slice_of(), in_a_thread(slice_of)


def test_a_thread_and_those_it_starts_have_the_slice_that_was_given() -> None:
    before, given, after, of_its_child = in_a_thread(lambda: asked_for(LONGEST_NS))
    expected = LONGEST_NS if given else before
    assert (after, of_its_child) == (expected, expected)


def test_another_thread_keeps_its_own() -> None:
    before = slice_of()
    in_a_thread(lambda: set_slice(LONGEST_NS))
    assert slice_of() == before


def test_linux_since_6_12_gives_it() -> None:
    version = tuple(map(int, platform.release().split("-")[0].split(".")[:2]))
    if version < (6, 12) or platform.machine() not in time_slice._CALLS:
        pytest.skip("this kernel knows of no slices of their own")
    assert in_a_thread(lambda: set_slice(LONGEST_NS))


def test_the_thread_that_reads_the_network_has_the_shortest() -> None:
    before, usual = io_threads(), slice_of()
    with Subscriber(SystemClock()):
        (thread,) = started_since(before)
        given = in_a_thread(lambda: set_slice(SHORTEST_NS))
        assert slice_of(thread) == (SHORTEST_NS if given else usual)
        assert slice_of() == usual


def test_on_an_unknown_processor_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "z80")
    assert slice_of() is None
    assert not set_slice(LONGEST_NS)
