"""What a file's name and time say of the events in it, when they say nothing themselves."""

from __future__ import annotations

from datetime import date, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

from consumer.days import NS_PER_SECOND, day_of


def noon_ns(day: date, zone: ZoneInfo) -> int:
    """Noon of a local day, UTC ns: the instant that is least likely to lie in another day."""
    return round(datetime.combine(day, time(12), zone).timestamp()) * NS_PER_SECOND


def logged_about_ns(path: Path, day: date | None, zone: ZoneInfo) -> int:
    """About when a file was written, UTC ns.

    `day` is the local date that its name says: its time of change if that lies in it, else its
    noon. Without a date it is the time of change. Raises OSError.
    """
    changed_ns = path.stat().st_mtime_ns
    if day is None or day_of(changed_ns, zone) == day:
        return changed_ns
    return noon_ns(day, zone)
