from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest

from consumer.days import MAX_NS, MIN_NS, NS_PER_DAY, day_bounds_ns, day_of

HOUR_NS = 3600 * 1_000_000_000
UTC = ZoneInfo("UTC")
MADRID = ZoneInfo("Europe/Madrid")


def hours(day: date, zone: str) -> float:
    start, end = day_bounds_ns(day, ZoneInfo(zone))
    return (end - start) / HOUR_NS


def test_the_epoch_is_the_first_of_january_1970() -> None:
    assert day_bounds_ns(date(1970, 1, 1), UTC) == (0, NS_PER_DAY)


def test_the_last_nanosecond_belongs_to_the_day_and_the_next_one_does_not() -> None:
    _, end = day_bounds_ns(date(2017, 7, 4), UTC)
    assert day_of(end - 1, UTC) == date(2017, 7, 4)
    assert day_of(end, UTC) == date(2017, 7, 5)


def test_times_before_1970_have_days() -> None:
    assert day_of(-1, UTC) == date(1969, 12, 31)


def test_a_leap_day_is_a_day() -> None:
    start, _ = day_bounds_ns(date(2024, 2, 29), UTC)
    assert day_of(start, UTC) == date(2024, 2, 29)


@pytest.mark.parametrize(
    ("zone", "day", "expected"),
    [
        ("Europe/Madrid", date(2017, 3, 26), 23),
        ("Europe/Madrid", date(2017, 10, 29), 25),
        ("Europe/Madrid", date(2017, 7, 4), 24),
        ("Australia/Lord_Howe", date(2017, 10, 1), 23.5),
        # Midnight itself does not exist on this day.
        ("America/Sao_Paulo", date(2017, 10, 15), 23),
        # The clocks went from 23:30 to 00:30, so the day begins before "its" midnight.
        ("America/Toronto", date(1919, 3, 31), 23.5),
        # A minute after midnight the clocks went back to 23:01 of the day before.
        ("America/St_Johns", date(2009, 11, 1), 25),
        # The zone skipped this day.
        ("Pacific/Apia", date(2011, 12, 30), 0),
    ],
)
def test_a_day_is_as_long_as_its_zone_makes_it(zone: str, day: date, expected: float) -> None:
    assert hours(day, zone) == expected


def test_no_instant_belongs_to_a_day_that_the_zone_skipped() -> None:
    zone = ZoneInfo("Pacific/Apia")
    start, _ = day_bounds_ns(date(2011, 12, 30), zone)
    assert day_of(start - 1, zone) == date(2011, 12, 29)
    assert day_of(start, zone) == date(2011, 12, 31)


def test_summer_time_moves_midnight_by_an_hour() -> None:
    winter, _ = day_bounds_ns(date(2017, 3, 26), MADRID)
    summer, _ = day_bounds_ns(date(2017, 3, 27), MADRID)
    assert winter % NS_PER_DAY == 23 * HOUR_NS
    assert summer % NS_PER_DAY == 22 * HOUR_NS


@pytest.mark.parametrize("ns", [MIN_NS, MAX_NS])
def test_every_time_that_an_int64_holds_has_a_day(ns: int) -> None:
    start, end = day_bounds_ns(day_of(ns, MADRID), MADRID)
    assert start <= ns < end


def test_a_year_of_days_follows_without_a_gap() -> None:
    day = date(2017, 1, 1)
    for _ in range(366):
        following = day + timedelta(days=1)
        assert day_bounds_ns(day, MADRID)[1] == day_bounds_ns(following, MADRID)[0]
        day = following
