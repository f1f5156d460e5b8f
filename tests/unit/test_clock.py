import time

import pytest

from consumer.clock import ClockSet, ManualClock, SystemClock


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


@pytest.mark.parametrize("by_s", [86_400, -86_400, 6])
def test_a_clock_that_was_set_is_noticed_once(by_s: int) -> None:
    clock = ManualClock(10**18)
    watch = ClockSet(clock)
    clock.advance(3600)
    assert watch.look() == 0
    clock.set_ns(clock.now_ns() + by_s * 10**9)
    clock.advance(1)
    assert watch.look() == pytest.approx(by_s)
    assert watch.look() == 0


@pytest.mark.parametrize("by_s", [-1, 1, 0.128])
def test_a_leap_second_or_a_correction_is_no_setting_of_the_clock(by_s: float) -> None:
    clock = ManualClock(10**18)
    watch = ClockSet(clock)
    clock.set_ns(clock.now_ns() + round(by_s * 1e9))
    assert watch.look() == 0
