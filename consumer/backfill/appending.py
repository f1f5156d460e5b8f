"""The last step of backfill: admission by its own rule, then the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import structlog
from google.protobuf.message import DecodeError

from consumer.backfill.spool import FOLDER, Outcome, Spool
from consumer.clock import Clock
from consumer.days import NS_PER_DAY
from consumer.journal import Journal
from consumer.reception.sources import Arrival
from consumer.retention.forget import tombstones
from consumer.settings import Settings
from consumer.wire.admission import YEAR_2000_NS, Admission, Refused
from consumer.wire.admitted import Admitted
from consumer.wire.profiles import Profiles
from proto.admission_pb2 import AdmissionEvent

log = structlog.get_logger("spool")

#: How many events are appended together.
BATCH = 256
#: How often an idle spool is looked at, seconds.
LOOK_S = 0.25


class Appender:
    """Admits events of the past and appends them. For the one thread that appends to the journal.

    An event's own time is believed however long ago it is, back to 2000; further ahead than
    `ahead_s` it is refused. An event without a time that can be believed gets its arrival's. Days
    that were forgotten on request are refused as ``forgotten``, because here, unlike on the wire,
    what comes is known to be old. Of the detectors' profiles the identity holds, by the sensor.

    Args:
        data_dir: where the tombstones of forgotten days are.
    """

    def __init__(
        self,
        journal: Journal,
        data_dir: Path,
        *,
        zone: ZoneInfo,
        ahead_s: float,
        clock: Clock,
        profiles: Profiles,
    ) -> None:
        self._journal = journal
        self._data_dir = data_dir
        admission = Admission(
            zone,
            back_days=(clock.now_ns() - YEAR_2000_NS) / NS_PER_DAY,
            ahead_s=ahead_s,
            is_retired=journal.is_retired,
        )
        timed, untimed = (
            admission.sibling(boot_clock=False, timed_identity=how) for how in (True, False)
        )
        rules = {"node-id-time": timed, "node-id": untimed}
        self._default = rules[profiles.default.identity]
        self._by_node = {
            node: rules[profiles.of(entry.name).identity]
            for entry in profiles.named
            for node in entry.nodes or (entry.name,)
        }

    def append(self, arrivals: Iterable[Arrival]) -> Outcome:
        """Append events that are not in an envelope; they are durable after the next sync.

        Raises:
            JournalError: the journal did not take them; those of a day before may be in it.
        """
        outcome = Outcome()
        forgotten = {path.stem for path in tombstones(self._data_dir)}
        by_day: dict[date, list[Admitted]] = {}
        for arrival in arrivals:
            admission = self._admission_of(arrival.message)
            event = admission.admit(arrival.message, None, arrival.arrival_ns)
            if isinstance(event, Refused):
                outcome.refuse(event.reason)
            elif event.day.isoformat() in forgotten:
                outcome.refuse("forgotten")
            else:
                by_day.setdefault(event.day, []).append(event)
        for day, events in by_day.items():
            done = self._journal.append(events)
            outcome.duplicates += done.duplicates
            if done.added:
                outcome.added[day] = done.added
        return outcome

    def _admission_of(self, payload: bytes) -> Admission:
        if not self._by_node:
            return self._default
        try:
            node = AdmissionEvent.FromString(payload).originating_node_id
        except DecodeError:
            return self._default
        return self._by_node.get(node, self._default)


class SpoolFeed:
    """Carries the spool into the journal, a little at a time, for the service's intake.

    Args:
        sync: makes durable what was appended (`Journal.sync`).
    """

    def __init__(
        self, folder: Path, appender: Appender, *, sync: Callable[[], None], clock: Clock
    ) -> None:
        #: What became of all events since the start.
        self.outcome = Outcome()
        self._spool = Spool(folder)
        self._appender = appender
        self._sync = sync
        self._clock = clock
        self._idle_until = 0.0

    def step(self) -> bool:
        """Take one batch the whole way. False if there was none: the caller may wait then.

        Cheap while nothing is there. Raises JournalError.
        """
        if self._clock.monotonic() < self._idle_until:
            return False
        try:
            arrivals = self._spool.take(BATCH)
            if arrivals:
                outcome = self._appender.append(arrivals)
                self.outcome.add(outcome)
                if self._spool.done(outcome):
                    self._sync()
                    self._spool.finish()
                return True
        except OSError as error:
            # What was appended is in the journal; the rest of the way is tried again.
            log.warning("the spool cannot be read or written", error=str(error))
        self._idle_until = self._clock.monotonic() + LOOK_S
        return False


def appender_of(settings: Settings, journal: Journal, clock: Clock) -> Appender:
    """The appender that the settings ask for."""
    return Appender(
        journal,
        settings.data.dir,
        zone=settings.day.zone,
        ahead_s=settings.day.ahead_s,
        clock=clock,
        profiles=settings.detector.all_profiles,
    )


def feed_of(settings: Settings, journal: Journal, clock: Clock) -> SpoolFeed:
    """The spool of a data folder on its way into its journal, for whoever writes that."""
    appender = appender_of(settings, journal, clock)
    return SpoolFeed(settings.data.dir / FOLDER, appender, sync=journal.sync, clock=clock)
