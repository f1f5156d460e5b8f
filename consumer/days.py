"""Calendar days as intervals of UTC nanoseconds, in any time zone.

A day starts at the first instant at which the clocks of its zone show it, and ends where the next
day starts. So days follow each other without a gap and without an overlap, whatever the zone does:
a day has 23 or 25 hours when summer time starts or ends, half-hour offsets work, and a day that a
zone skipped (Apia, 30 December 2011) is empty.
"""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

NS_PER_SECOND = 1_000_000_000
NS_PER_DAY = 86_400 * NS_PER_SECOND

#: What an int64 of nanoseconds since 1970 can hold: 1677-09-21 to 2262-04-11.
MIN_NS = -(2**63)
MAX_NS = 2**63 - 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_DAY = timedelta(days=1)


def day_of(ns: int, zone: ZoneInfo) -> date:
    """Return the day of `zone` that holds the instant `ns` (UTC nanoseconds since 1970).

    Promises `day_bounds_ns(d, zone)[0] <= ns < day_bounds_ns(d, zone)[1]` for the day d returned.
    Raises OverflowError for an instant outside the years 1 to 9999.
    """
    for start, end, day in _days_around(ns // NS_PER_DAY, zone):
        if start <= ns < end:
            return day
    msg = f"no day of {zone.key} holds {ns} ns; this is a fault in day_of"
    raise AssertionError(msg)


def day_bounds_ns(day: date, zone: ZoneInfo) -> tuple[int, int]:
    """Return `[start, end)` of `day` in `zone`, as UTC nanoseconds since 1970.

    Raises OverflowError for 31 December 9999 and for days whose bounds leave the years 1 to 9999.
    """
    return _start_ns(day, zone), _start_ns(day + _ONE_DAY, zone)


@lru_cache(maxsize=4096)
def _days_around(utc_day: int, zone: ZoneInfo) -> tuple[tuple[int, int, date], ...]:
    """Return the days of `zone` that share an instant with UTC day number `utc_day`."""
    first_ns = utc_day * NS_PER_DAY
    day = (_EPOCH + timedelta(days=utc_day)).date() - _ONE_DAY
    found: list[tuple[int, int, date]] = []
    while True:
        start, end = day_bounds_ns(day, zone)
        if start >= first_ns + NS_PER_DAY:
            return tuple(found)
        if end > first_ns:
            found.append((start, end, day))
        day += _ONE_DAY


@lru_cache(maxsize=4096)
def _start_ns(day: date, zone: ZoneInfo) -> int:
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    start = _whole_seconds(midnight)
    if _local_date(start - 1, zone) >= day:
        # Clocks jumped over this midnight, and the day began before the instant at which the old
        # offset would have shown it. The last second of the day before is less than 25 hours away.
        start = _first_second_of(day, zone, start - 25 * 3600, start)
    return start * NS_PER_SECOND


def _first_second_of(day: date, zone: ZoneInfo, before: int, within: int) -> int:
    while within - before > 1:
        middle = (before + within) // 2
        if _local_date(middle, zone) >= day:
            within = middle
        else:
            before = middle
    return within


def _local_date(second: int, zone: ZoneInfo) -> date:
    return (_EPOCH + timedelta(seconds=second)).astimezone(zone).date()


def _whole_seconds(instant: datetime) -> int:
    since = instant.astimezone(UTC) - _EPOCH
    return since.days * 86_400 + since.seconds
