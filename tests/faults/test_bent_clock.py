"""A service whose clock is set forwards and backwards, and days that are not 24 hours long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from consumer.journal import open_chunk
from consumer.service import BEAT_S
from consumer.wire.keys import key_from_seed
from proto.network_security_pb2 import NetworkSecurityEvent
from tests.running_service import NOON, BentClock, Detector, Running, key_entry, write_config

SEED = bytes(range(32))  # a test key
GRACE_S = 600
DAY_RULE = f'[day]\ntimezone = "{{zone}}"\ngrace_s = {GRACE_S}\nsettle_s = 1.0\n'


class Site:
    """A detector with a clock of its own, and a service in this process with a bent one."""

    def __init__(self, folder: Path, start: datetime, zone: str, more: str) -> None:
        self.detector = Detector(key_from_seed("k", SEED))
        self.clock = BentClock(start)
        self.journal = folder / "data" / "journal"
        self.zone = ZoneInfo(zone)
        self._number = 0
        rules = DAY_RULE.format(zone=zone) + more + key_entry("k", SEED.hex())
        self._config = write_config(folder, {"d": self.detector.address}, rules)
        self._running = Running(self._config, self.clock)
        self.wait_for = self._running.wait_for

    def send(self, *times: datetime) -> None:
        for at in times:
            event = NetworkSecurityEvent(event_id=f"e{self._number}", originating_node_id="n")
            event.event_timestamp.FromDatetime(at.astimezone(UTC).replace(tzinfo=None))
            event.network_features.destination_port = 443
            self.detector.send(event)
            self._number += 1

    def wait_journaled(self, count: int) -> None:
        self.wait_for("the journal", lambda picture: picture["journal"]["durable"] == count)

    def wait_sealed(self, day: date, revision: int) -> dict[str, Any]:
        """Wait for a revision of a day; what the picture says of the day."""
        found: dict[str, Any] = {}

        def sealed(picture: dict[str, Any]) -> bool:
            found.update({entry["day"]: entry for entry in picture["days"]})
            entry = found.get(str(day))
            return entry is not None and entry["revision"] == revision

        self.wait_for(f"revision {revision} of {day}", sealed)
        told: dict[str, Any] = found[str(day)]
        return told

    def events_of(self, day: date) -> int:
        return open_chunk(self.journal, day, zone=self.zone).events

    def restart(self, at: datetime) -> None:
        """Stop, and start again with the clock set."""
        self._running.stop()
        self.clock.set(at)
        self._running = Running(self._config, self.clock)
        self.wait_for = self._running.wait_for

    def stop(self) -> None:
        self._running.stop()
        self.detector.stop()


@contextmanager
def site(folder: Path, start: datetime, zone: str = "UTC", more: str = "") -> Iterator[Site]:
    made = Site(folder, start, zone, more)
    try:
        yield made
    finally:
        made.stop()


TODAY = NOON.date()
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def test_a_clock_that_runs_ahead_for_a_while_costs_a_revision_and_no_event(
    tmp_path: Path,
) -> None:
    with site(tmp_path, NOON) as here:
        here.send(NOON - HOUR, NOON - MINUTE)
        here.wait_journaled(2)
        here.clock.step(3 * 86_400)
        assert here.wait_sealed(TODAY, 1)["events"] == 2
        here.send(NOON + MINUTE)
        here.wait_journaled(3)
        here.wait_sealed(TODAY, 2)
        here.clock.step(-3 * 86_400)
        here.send(NOON + 2 * MINUTE)
        here.wait_journaled(4)
        # The day is today again and goes on; it closes once more when it is really over.
        here.clock.set(NOON + 12 * HOUR + timedelta(seconds=GRACE_S))
        assert here.wait_sealed(TODAY, 3)["events"] == 4
        assert here.events_of(TODAY) == 4


def test_what_came_while_the_clock_was_behind_is_admitted_when_it_is_right(
    tmp_path: Path,
) -> None:
    """A machine without a battery starts in the past; its detectors seem to send from the future."""
    with site(tmp_path, NOON - 400 * DAY) as here:
        here.send(*(NOON + number * MINUTE for number in range(4)))
        here.wait_for("quarantine", lambda p: p["quarantine"]["reasons"] == {"future": 4})
        here.clock.set(NOON + 5 * MINUTE)
        here.wait_journaled(4)
        picture = here.wait_for("an empty quarantine", lambda p: not p["quarantine"]["reasons"])
        assert picture["intake"]["retried"] == 4
        assert picture["journal"]["open_days"] == [str(TODAY)]


def test_a_clock_set_back_by_days_loses_nothing_and_closes_the_day_once(tmp_path: Path) -> None:
    with site(tmp_path, NOON) as here:
        here.send(NOON - HOUR)
        here.wait_journaled(1)
        here.clock.step(-2 * 86_400)
        here.send(NOON)
        here.wait_for("quarantine", lambda p: p["quarantine"]["reasons"] == {"future": 1})
        time.sleep(2 * BEAT_S)  # a service looks at its clock at each beat
        here.clock.step(2 * 86_400)
        here.wait_journaled(2)
        here.clock.set(NOON + DAY)
        assert here.wait_sealed(TODAY, 1)["events"] == 2


@pytest.mark.parametrize(
    ("day", "hours"),
    [(date(2017, 3, 26), 23), (date(2017, 10, 29), 25)],
    ids=["23 hours", "25 hours"],
)
def test_a_local_day_is_as_long_as_it_is(tmp_path: Path, day: date, hours: int) -> None:
    madrid = ZoneInfo("Europe/Madrid")
    start = datetime(day.year, day.month, day.day, tzinfo=madrid).astimezone(UTC)
    with site(tmp_path, start + 26 * HOUR, "Europe/Madrid") as here:
        # An event in the last second of the day before, one in each hour, one at the next midnight.
        here.send(start - timedelta(seconds=1), *(start + number * HOUR for number in range(hours)))
        here.send(start + hours * HOUR)
        here.wait_journaled(hours + 2)
        here.wait_sealed(day, 1)
        assert here.events_of(day) == hours
        told = here.wait_for(
            "the rows",
            lambda picture: (
                [entry["state"] for entry in picture["days"] if entry["day"] == str(day)]
                == ["committed"]
            ),
        )
        coverage = next(e for e in told["days"] if e["day"] == str(day))["coverage"]
        assert coverage["timeseries"]["minutes"] == hours * 60


def test_a_leap_second_that_is_counted_twice_closes_its_day_once(tmp_path: Path) -> None:
    """Kernels step back by a second at its end; what was sent in it is before and after at once."""
    new_year = datetime(2017, 1, 1, tzinfo=UTC)
    second = timedelta(seconds=1)
    with site(tmp_path, new_year + 5 * MINUTE) as here:
        here.send(new_year - second, new_year - second / 2)
        here.clock.step(-1)
        here.send(new_year - second, new_year - second / 2, new_year)
        here.wait_journaled(5)
        here.clock.set(new_year + timedelta(seconds=GRACE_S))
        here.wait_sealed(date(2016, 12, 31), 1)
        assert here.events_of(date(2016, 12, 31)) == 4
        picture = here.wait_for("a picture", bool)
        assert picture["journal"]["open_days"] == ["2017-01-01"]
        assert picture["intake"]["quarantined"] == 0


def test_a_clock_a_year_ahead_lets_nothing_go_and_is_noticed(tmp_path: Path) -> None:
    limits = "[retention]\njournal_days = 30\n[quarantine]\nmax_age_days = 30\n"
    with site(tmp_path, NOON, more=limits) as here:
        here.send(NOON - HOUR)
        here.send(NOON + HOUR)  # from the future: to the quarantine
        here.wait_journaled(1)
        here.wait_for("quarantine", lambda p: p["quarantine"]["reasons"] == {"future": 1})
        here.restart(NOON + DAY)
        here.wait_for("the day", lambda p: [day["state"] for day in p["days"]] == ["committed"])
        # What is old is looked for at each start.
        here.restart(NOON + 366 * DAY)
        doubted = here.wait_for("doubt", lambda p: p["clock"]["doubted_by_s"] > 300 * 86_400)
        time.sleep(2 * BEAT_S)
        assert here.events_of(TODAY) == 1
        assert doubted["quarantine"]["dropped"] == {"future": 0}
        here.clock.set(NOON + DAY)
        here.wait_for("belief", lambda p: p["clock"]["doubted_by_s"] == 0)
        assert here.events_of(TODAY) == 1
