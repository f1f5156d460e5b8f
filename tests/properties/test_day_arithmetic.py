from datetime import date, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from consumer.days import MAX_NS, MIN_NS, day_bounds_ns, day_of

ZONES = [
    "UTC",
    "Europe/Madrid",
    "America/Sao_Paulo",
    "America/St_Johns",
    "America/Toronto",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "Africa/Monrovia",
]

zones = st.sampled_from(ZONES).map(ZoneInfo)
days = st.dates(date(1678, 1, 1), date(2261, 12, 31))


@given(st.integers(MIN_NS, MAX_NS), zones)
def test_every_instant_lies_in_its_day(ns: int, zone: ZoneInfo) -> None:
    start, end = day_bounds_ns(day_of(ns, zone), zone)
    assert start <= ns < end


@given(days, zones)
def test_days_follow_each_other_without_gap_or_overlap(day: date, zone: ZoneInfo) -> None:
    start, end = day_bounds_ns(day, zone)
    assert start <= end == day_bounds_ns(day + timedelta(days=1), zone)[0]


@given(days, zones, st.integers(0, 2**63))
def test_a_day_holds_all_between_its_bounds_and_nothing_else(
    day: date, zone: ZoneInfo, anywhere: int
) -> None:
    start, end = day_bounds_ns(day, zone)
    if start < end:  # a zone may skip a day
        assert day_of(start, zone) == day_of(end - 1, zone) == day
        assert day_of(start + anywhere % (end - start), zone) == day
    assert day_of(start - 1, zone) < day < day_of(end, zone) or start == end


@given(st.integers(0, 86_400 * 10**9 - 1), days)
def test_in_utc_every_day_has_24_hours(within: int, day: date) -> None:
    start, end = day_bounds_ns(day, ZoneInfo("UTC"))
    assert end - start == 86_400 * 10**9
    assert day_of(start + within, ZoneInfo("UTC")) == day
