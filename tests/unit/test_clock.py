import time

import pytest

from consumer.clock import ManualClock, SystemClock


def test_a_manual_clock_stands_still() -> None:
    clock = ManualClock(7)
    assert (clock.now_ns(), clock.now_ns(), clock.monotonic()) == (7, 7, 0.0)


def test_advancing_moves_both_clocks() -> None:
    clock = ManualClock(7)
    clock.advance(1.5)
    assert (clock.now_ns(), clock.monotonic()) == (1_500_000_007, 1.5)


def test_setting_the_time_of_day_lets_no_time_pass() -> None:
    clock = ManualClock(7)
    clock.set_ns(3)
    assert (clock.now_ns(), clock.monotonic()) == (3, 0.0)


def test_time_does_not_pass_backwards() -> None:
    with pytest.raises(ValueError, match="forwards"):
        ManualClock().advance(-1)


def test_the_system_clock_reads_the_machine() -> None:
    before = time.time_ns()
    assert before <= SystemClock().now_ns() <= time.time_ns()
    assert SystemClock().monotonic() <= time.monotonic()
