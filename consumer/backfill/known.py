"""What the journal holds already: the part of "counts once" that identities cannot decide.

An event that comes a second time under its own identity is dropped by the journal. A record of the
detector's log has another identity than its event, so before records are added the journal's days
are read and the records of events that are there are found (and the other way round for artifacts
whose record came first). Days are read as they lie on the disk, without a lock and whether sealed
or not; while a service appends to them, what it adds in this moment may be missed.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from consumer.backfill.fingerprint import fingerprints, named
from consumer.backfill.jsonl import MADE_UP, RECORD_MARK, Mark
from consumer.days import NS_PER_SECOND, day_of
from consumer.journal.frames import BadFrameError, Gap
from consumer.journal.record import Record, decode
from consumer.journal.segment import SEGMENT_SUFFIX, segment_number, valid_frames
from proto.admission_pb2 import AdmissionEvent
from proto.network_security_pb2 import NetworkSecurityEvent

_MARK = RECORD_MARK.encode()
_HOUR_NS = 3600 * NS_PER_SECOND
_KEPT_DAYS = 2


def days_of(times: NDArray[np.int64], zone: ZoneInfo) -> list[date]:
    """The days of some instants (int64, UTC ns), in order."""
    days: set[date] = set()
    for hour in np.unique(times // _HOUR_NS).tolist():
        # Days of some zones begin at half past an hour.
        days |= {day_of(hour * _HOUR_NS, zone), day_of((hour + 1) * _HOUR_NS - 1, zone)}
    return sorted(days)


def read_day(journal: Path, day: date) -> Iterator[Record]:
    """Every valid record of a day, as the disk has it now; damaged ones are passed over.

    Raises OSError for a segment that cannot be read.
    """
    folder = journal / day.isoformat()
    if not folder.is_dir():
        return
    for path in sorted(folder.glob(f"*{SEGMENT_SUFFIX}")):
        number = segment_number(path.name)
        if number is None:
            continue
        gaps: list[Gap] = []
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            for frames in valid_frames(file, size, day, number, gaps):
                try:
                    yield from decode(frames)
                except BadFrameError:
                    continue


class Candidate(NamedTuple):
    """A record that may be of a known event.

    Attributes:
        digest: of the record's content.
        second: its own time, whole seconds.
        likeness: its fingerprint, full if it tells the amounts, else core.
        event_id: the id of its event where an artifact of the same content names it.
    """

    digest: bytes
    second: int
    likeness: bytes
    event_id: str | None = None


class KnownEvents:
    """Finds in a journal's days the events that are about to be added.

    Args:
        journal: the journal's folder.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._derived: dict[date, Counter[bytes]] = {}

    def of_records(self, candidates: Iterable[Candidate], days: Collection[date]) -> set[int]:
        """Which records, by their position, belong to events that these days hold.

        Every event of the journal stands for one record at most.
        """
        table = _Table(candidates)
        if table.digests:
            for day in days:
                for record in read_day(self._journal, day):
                    table.take(record.payload)
        return table.found

    def added_records(self, days: Iterable[date]) -> None:
        """Records were added to these days: read them again when they are asked for."""
        for day in days:
            self._derived.pop(day, None)

    def has_record_of(self, payload: bytes, day: date) -> bool:
        """Whether the day holds an event that was read from the record of this one.

        A record stands for one event only: asked a second time, it is used up.
        """
        derived = self._derived_of(day)
        if not derived:
            return False
        event = _parse(payload)
        second = event.event_timestamp.seconds
        full, core = fingerprints(event, second)
        for key in (named(event.event_id, second), full, core):
            if derived[key] > 0:
                derived[key] -= 1
                return True
        return False

    def _derived_of(self, day: date) -> Counter[bytes]:
        known = self._derived.get(day)
        if known is None:
            while len(self._derived) >= _KEPT_DAYS:
                del self._derived[min(self._derived)]
            known = self._derived[day] = Counter(
                key
                for record in read_day(self._journal, day)
                if _MARK in record.payload and (key := _derived_key(record.payload)) is not None
            )
        return known


def _derived_key(payload: bytes) -> bytes | None:
    """What an event that was read from a record offers to the artifact of the same event."""
    event = _parse(payload)
    mark = Mark.of(event)
    if mark is None:
        return None
    if not event.event_id.startswith(MADE_UP):
        return named(event.event_id, mark.second)
    full, core = fingerprints(event, mark.second)
    return full if mark.detailed else core


class _Table:
    """The candidates by everything that they can be found by."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self.found: set[int] = set()
        self.digests: dict[bytes, int] = {}
        self._seconds: set[int] = set()
        self._alike: dict[bytes, deque[int]] = {}
        for position, candidate in enumerate(candidates):
            self.digests[candidate.digest] = position
            self._seconds.add(candidate.second)
            keys = [candidate.likeness]
            if candidate.event_id is not None:
                keys.append(named(candidate.event_id, candidate.second))
            for key in keys:
                self._alike.setdefault(key, deque()).append(position)

    def take(self, payload: bytes) -> None:
        """Mark the one record, if any, that this event of the journal stands for."""
        identity = AdmissionEvent.FromString(payload)
        if _MARK in payload and (digest := _record_of(identity.event_id, payload)) is not None:
            position = self.digests.get(digest)
            if position is not None:
                self.found.add(position)
            return
        if identity.event_timestamp.seconds not in self._seconds:
            return
        event = _parse(payload)
        second = event.event_timestamp.seconds
        full, core = fingerprints(event, second)
        for key in (named(event.event_id, second), full, core):
            waiting = self._alike.get(key)
            while waiting:
                position = waiting.popleft()
                if position not in self.found:
                    self.found.add(position)
                    return


def _record_of(event_id: str, payload: bytes) -> bytes | None:
    """The digest of the record that an event was read from; None if it was not."""
    if event_id.startswith(MADE_UP):
        # Nearly always, and much cheaper than the whole event.
        with suppress(ValueError):
            return bytes.fromhex(event_id.removeprefix(MADE_UP))
    mark = Mark.of(_parse(payload))
    return None if mark is None else mark.digest


def _parse(payload: bytes) -> NetworkSecurityEvent:
    """The event; an empty one if the journal holds bytes that only admission could read."""
    try:
        return NetworkSecurityEvent.FromString(payload)
    except DecodeError:
        return NetworkSecurityEvent()
