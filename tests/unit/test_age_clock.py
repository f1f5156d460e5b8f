"""By which clock things grow old when the wall clock jumps."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumer.clock import ManualClock
from consumer.retention.age_clock import FILE, LEAP_S, PROOF_S, AgeClock

S = 1_000_000_000
NOW_S = 1_500_000_000
YEAR_S = 365 * 86_400


@pytest.fixture
def wall() -> ManualClock:
    return ManualClock(NOW_S * S)


@pytest.fixture
def aging(wall: ManualClock, tmp_path: Path) -> AgeClock:
    clock = AgeClock(wall, tmp_path)
    clock.look()
    return clock


def jump(wall: ManualClock, by_s: float) -> None:
    wall.set_ns(wall.now_ns() + round(by_s * S))


def run(wall: ManualClock, aging: AgeClock, seconds: float) -> None:
    """Let time pass, with a look now and then."""
    for _ in range(100):
        wall.advance(seconds / 100)
        aging.look()


def test_it_is_the_wall_clock_as_long_as_that_runs(wall: ManualClock, aging: AgeClock) -> None:
    run(wall, aging, 10 * 86_400)
    jump(wall, LEAP_S / 2)
    aging.look()
    assert aging.now_ns() == wall.now_ns()
    assert aging.doubted_by_s == 0


def test_a_leap_ahead_ages_nothing_even_before_anybody_looked(
    wall: ManualClock, aging: AgeClock
) -> None:
    jump(wall, YEAR_S)
    assert aging.now_ns() == NOW_S * S
    wall.advance(60)
    assert aging.now_ns() == (NOW_S + 60) * S
    assert aging.doubted_by_s == YEAR_S


def test_a_leap_that_is_corrected_leaves_no_trace(wall: ManualClock, aging: AgeClock) -> None:
    jump(wall, YEAR_S)
    run(wall, aging, PROOF_S / 2)
    jump(wall, -YEAR_S)
    aging.look()
    assert aging.now_ns() == wall.now_ns()
    jump(wall, YEAR_S)
    run(wall, aging, PROOF_S * 0.9)  # the doubt of before does not count
    assert aging.doubted_by_s == pytest.approx(YEAR_S)


@pytest.mark.parametrize("leap_s", [YEAR_S, 2 * LEAP_S, -YEAR_S])
def test_a_leap_that_lasts_is_believed(wall: ManualClock, aging: AgeClock, leap_s: float) -> None:
    jump(wall, leap_s)
    run(wall, aging, PROOF_S * 1.1)
    assert aging.doubted_by_s == 0
    assert aging.now_ns() == wall.now_ns()


def test_a_clock_set_back_makes_nothing_older_than_it_says(
    wall: ManualClock, aging: AgeClock
) -> None:
    jump(wall, -YEAR_S)
    aging.look()
    assert aging.now_ns() == wall.now_ns()
    jump(wall, YEAR_S)
    aging.look()
    assert aging.now_ns() == wall.now_ns()
    assert aging.doubted_by_s == 0


def test_a_leap_while_the_service_was_away_is_seen_at_the_next_start(
    wall: ManualClock, aging: AgeClock, tmp_path: Path
) -> None:
    jump(wall, YEAR_S)
    again = AgeClock(wall, tmp_path)
    assert again.now_ns() == NOW_S * S
    run(wall, again, PROOF_S * 0.6)
    # A machine that is switched off every night comes to believe it, too.
    once_more = AgeClock(wall, tmp_path)
    run(wall, once_more, PROOF_S * 0.6)
    assert once_more.doubted_by_s == 0


def test_without_a_mark_or_with_a_damaged_one_the_wall_clock_is_believed(
    wall: ManualClock, aging: AgeClock, tmp_path: Path
) -> None:
    text = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(text[:-9])
    jump(wall, YEAR_S)
    assert AgeClock(wall, tmp_path).now_ns() == wall.now_ns()
