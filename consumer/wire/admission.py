"""Admission: which day an event belongs to, and what identifies it.

Only the few fields that this takes are parsed; the payload goes on as it was received.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime
from itertools import repeat
from operator import add, lt
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from google.protobuf.message import DecodeError

from consumer import columns
from consumer.days import MAX_NS, MIN_NS, NS_PER_DAY, NS_PER_SECOND, day_bounds_ns, day_of
from consumer.wire.admitted import Admitted, Batch
from consumer.wire.identity import identity_digest
from proto.admission_pb2 import AdmissionEvent
from proto.network_security_pb2 import NetworkSecurityEvent

#: Times before this are of a clock that counts from its boot, or was never set.
YEAR_2000_NS = 946_684_800 * NS_PER_SECOND
# More than seconds and nanoseconds of the wire can say.
_FAR_NS = 1 << 100


Marks = Callable[[Sequence[bytes], bool], tuple[list[int], list[bytes]] | None]


class Refused(NamedTuple):
    """A message that is not admitted. `detail` is for people and holds nothing secret."""

    reason: Literal["schema", "future", "retired"]
    detail: str


@dataclass(frozen=True, slots=True)
class AdmissionFacts:
    """What admission has counted since it was made.

    Attributes:
        own_time: events that keep their own time.
        arrival_time: events whose own time is missing or implausible. In wall mode they got the
            time of arrival, in event-clock mode the watermark.
        boot_clock: those among `arrival_time` whose clock counts from boot (before 2000, or the
            profile says so).
        too_old: those among `arrival_time` that are older than `back_days` lets them be.
        no_time: those among `arrival_time` without a timestamp, or with a malformed one.
        empty_id: admitted events without an id.
        future: refused, from the future.
        schema: refused, not the schema.
        retired: refused, of a day whose journal was let go.
    """

    own_time: int
    arrival_time: int
    boot_clock: int
    too_old: int
    no_time: int
    empty_id: int
    future: int
    schema: int
    retired: int

    def __add__(self, other: AdmissionFacts) -> AdmissionFacts:
        return AdmissionFacts(*map(add, astuple(self), astuple(other)))


@dataclass(slots=True)
class Watermark:
    """The highest effective time so far, UTC ns; shared by siblings."""

    ns: int | None = None


class Admission:
    """Decides day and identity of each event. Called by one thread; `facts()` by any.

    Wall mode: an event's own time is used if it is at most `back_days` before and `ahead_s` after
    its arrival. Older ones get the time of arrival, later ones are refused and never move any
    clock. Event-clock mode (replay, tests): an own time after 2000-01-01 is trusted as it is, and
    an event without one gets `watermark_ns`, the highest event time so far, or its arrival.
    `sibling` gives the same rules with what is peculiar about one detector.

    Args:
        zone: the time zone of a day.
        back_days: how many days an own time may lie before the arrival.
        ahead_s: how many seconds an own time may lie after the arrival.
        event_clock: trust the events' own times.
        watermark_ns: where event-clock mode goes on after a restart (`Journal.watermark_ns`).
        is_retired: tells days that take no more events (`Journal.is_retired`).
        watermark: in place of `watermark_ns`, one that others move too.
        boot_clock: events' own times are never used, whatever they look like.
        timed_identity: False if node and id alone identify an event within its day.
    """

    def __init__(
        self,
        zone: ZoneInfo,
        *,
        back_days: float = 7,
        ahead_s: float = 300,
        event_clock: bool = False,
        watermark_ns: int | None = None,
        is_retired: Callable[[date], bool] | None = None,
        watermark: Watermark | None = None,
        boot_clock: bool = False,
        timed_identity: bool = True,
    ) -> None:
        self._mark = watermark or Watermark(watermark_ns)
        self._rules = back_days, ahead_s, event_clock
        self._siblings: tuple[Admission, ...] = ()
        self._is_retired = is_retired
        self._zone = zone
        # No time is plausible to a boot clock, and none is in its future.
        self._back_ns = -_FAR_NS if boot_clock else round(back_days * NS_PER_DAY)
        self._ahead_ns = _FAR_NS if boot_clock else round(ahead_s * NS_PER_SECOND)
        self._event_clock = event_clock
        self._trusting = event_clock and not boot_clock
        self._never_own = boot_clock
        self._timed = timed_identity
        self._identify = identity_digest if timed_identity else _untimed_digest
        compiled = columns.compiled()
        self._marks: Marks = marks if compiled is None else compiled.marks
        self._day_start = self._day_end = 0
        self._day = date.min
        self._own_time = 0
        self._boot_clock = self._too_old = self._no_time = 0
        self._empty_id = self._future = self._schema = self._retired = 0

    def sibling(self, *, boot_clock: bool, timed_identity: bool) -> Admission:
        """The same rules and the same watermark for one detector, with facts of its own.

        They are counted in the facts of this one too. For the other arguments see the class.
        """
        back_days, ahead_s, event_clock = self._rules
        other = Admission(
            self._zone,
            back_days=back_days,
            ahead_s=ahead_s,
            event_clock=event_clock,
            watermark=self._mark,
            is_retired=self._is_retired,
            boot_clock=boot_clock,
            timed_identity=timed_identity,
        )
        self._siblings += (other,)
        return other

    @property
    def watermark_ns(self) -> int | None:
        """The highest effective time so far in event-clock mode, UTC ns."""
        return self._mark.ns

    @watermark_ns.setter
    def watermark_ns(self, ns: int | None) -> None:
        self._mark.ns = ns

    def admit(self, payload: bytes, block: bytes | None, arrival_ns: int) -> Admitted | Refused:
        """Return the event, or why it is refused. Never raises on account of what is in it.

        `payload` is the protobuf message; `block` is the LZ4 block that it came in, or None.
        Raises ValueError if `arrival_ns` is not a time that an int64 of nanoseconds can hold.
        """
        return self._admit(_parsed(payload), payload, block, arrival_ns)

    def admit_all(
        self,
        payloads: Sequence[bytes],
        blocks: Sequence[bytes | None],
        arrivals_ns: Sequence[int],
    ) -> Sequence[Admitted | Refused]:
        """Admit messages one after the other: the same answers as those of `admit`, for less."""
        ordinary = self._ordinary(payloads, blocks, arrivals_ns)
        return [*map(self.admit, payloads, blocks, arrivals_ns)] if ordinary is None else ordinary

    def _ordinary(
        self,
        payloads: Sequence[bytes],
        blocks: Sequence[bytes | None],
        arrivals_ns: Sequence[int],
    ) -> Batch | None:
        """The events if there is nothing special about any of them, else None.

        Nearly always each has an id and a plausible time of its own, all within one day that takes
        events. That is seen at a glance over all of them, and most of the work is saved.
        """
        if self._never_own or not payloads:
            return None
        found = self._marks(payloads, self._timed)
        if found is None:
            return None
        times, digests = found
        first, last = min(times), max(times)
        earliest, latest = self._plausible(max(arrivals_ns), min(arrivals_ns))
        if not earliest <= first <= last <= latest:
            return None
        day, _, day_end, retired = self._enter_day(first)
        if last >= day_end or retired:
            return None

        self._own_time += len(payloads)
        self._note_watermark(last)
        stored, sizes, compressed = _stored_all(payloads, blocks)
        own_times = [True] * len(times)
        return Batch(day, times, own_times, digests, [*arrivals_ns], stored, sizes, compressed)

    def _admit(
        self,
        event: AdmissionEvent | None,
        payload: bytes,
        block: bytes | None,
        arrival_ns: int,
    ) -> Admitted | Refused:
        """Admit one message; `event` is what was parsed of it, None if that is impossible."""
        if event is None:
            return self._refuse_schema(payload, "not a protobuf message of this schema")
        event_id, node = event.event_id, event.originating_node_id
        stamp = event.event_timestamp
        own_ns = stamp.seconds * NS_PER_SECOND + stamp.nanos
        if not event_id and not node and not own_ns and not _has_known_field(payload):
            return self._refuse_schema(payload, "no field of this schema in it")

        earliest, latest = self._plausible(arrival_ns, arrival_ns)
        own_time = earliest <= own_ns <= latest and 0 <= stamp.nanos < NS_PER_SECOND
        if own_time:
            time_ns = own_ns
            self._own_time += 1
        elif own_ns > latest:
            return self._refuse_future(own_ns, arrival_ns)
        else:
            time_ns = self._other_time(own_ns, stamp.nanos, arrival_ns)
        self._note_watermark(time_ns)

        day, _, _, retired = self._enter_day(time_ns)
        if retired:
            return self._refuse_retired(day)
        if event_id:
            digest = self._identify(node, event_id, own_ns)
        else:
            self._empty_id += 1
            digest = self._identify(node, event_id, own_ns, content=payload)
        compressed = block is not None and len(block) < len(payload)
        stored = _stored(payload, block, compressed)
        return Admitted(
            day, time_ns, own_time, digest, arrival_ns, stored, len(payload), compressed
        )

    def _plausible(self, latest_arrival_ns: int, earliest_arrival_ns: int) -> tuple[int, int]:
        """Between which own times an event is believed, whenever in this span it arrived."""
        if self._trusting:
            return YEAR_2000_NS + 1, MAX_NS
        return latest_arrival_ns - self._back_ns, earliest_arrival_ns + self._ahead_ns

    def _note_watermark(self, time_ns: int) -> None:
        if self._event_clock and (self._mark.ns is None or time_ns > self._mark.ns):
            self._mark.ns = time_ns

    def facts(self) -> AdmissionFacts:
        """Return what was counted so far, siblings included. May be called from any thread."""
        own = AdmissionFacts(
            own_time=self._own_time,
            arrival_time=self._boot_clock + self._too_old + self._no_time,
            boot_clock=self._boot_clock,
            too_old=self._too_old,
            no_time=self._no_time,
            empty_id=self._empty_id,
            future=self._future,
            schema=self._schema,
            retired=self._retired,
        )
        return sum((one.facts() for one in self._siblings), start=own)

    def _other_time(self, own_ns: int, nanos: int, arrival_ns: int) -> int:
        """Count why the own time is not used, and return the time to use in its place."""
        if own_ns == 0 or not 0 <= nanos < NS_PER_SECOND:
            self._no_time += 1
        elif self._never_own or own_ns <= YEAR_2000_NS:
            self._boot_clock += 1
        else:
            self._too_old += 1
        if self._event_clock and self._mark.ns is not None:
            return self._mark.ns
        return arrival_ns

    def _enter_day(self, time_ns: int) -> tuple[date, int, int, bool]:
        """The day of a time, its bounds, and whether it takes no more events."""
        if not self._day_start <= time_ns < self._day_end:
            if not MIN_NS <= time_ns <= MAX_NS:
                raise ValueError(f"arrival_ns = {time_ns} does not fit an int64 of nanoseconds")
            self._day = day_of(time_ns, self._zone)
            self._day_start, self._day_end = day_bounds_ns(self._day, self._zone)
        day = self._day
        retired = self._is_retired is not None and self._is_retired(day)
        return day, self._day_start, self._day_end, retired

    def _refuse_retired(self, day: date) -> Refused:
        self._retired += 1
        return Refused("retired", f"the journal of {day} was let go; its rows cannot be added to")

    def _refuse_future(self, own_ns: int, arrival_ns: int) -> Refused:
        self._future += 1
        ahead_s = (own_ns - arrival_ns) / NS_PER_SECOND
        return Refused(
            "future",
            f"its own time {_readable(own_ns)} is {ahead_s:.0f} s after its arrival; "
            f"{self._ahead_ns / NS_PER_SECOND:.0f} s are allowed",
        )

    def _refuse_schema(self, payload: bytes, why: str) -> Refused:
        self._schema += 1
        return Refused("schema", f"{len(payload)} bytes, {why}")


def marks(payloads: Sequence[bytes], timed: bool) -> tuple[list[int], list[bytes]] | None:
    """The own times (UTC ns) and the identity digests of events that say both as they should.

    None if any does not: it has no id, no time of this era, or is no protobuf message. Without
    `timed` the time is no part of the identity.
    """
    try:
        events = list(map(AdmissionEvent.FromString, payloads))
    except DecodeError:
        return None
    stamps = [event.event_timestamp for event in events]
    nanos = [stamp.nanos for stamp in stamps]
    times = [
        stamp.seconds * NS_PER_SECOND + more for stamp, more in zip(stamps, nanos, strict=True)
    ]
    event_ids = [event.event_id for event in events]
    if not all(event_ids) or min(nanos) < 0 or max(nanos) >= NS_PER_SECOND:
        return None
    if not min(times) >= 0 or max(times) > MAX_NS:
        return None
    nodes = [event.originating_node_id for event in events]
    return times, list(map(identity_digest, nodes, event_ids, times if timed else repeat(0)))


def _untimed_digest(
    node: str, event_id: str, timestamp_ns: int, *, content: bytes | None = None
) -> bytes:
    del timestamp_ns
    return identity_digest(node, event_id, 0, content=content)


def _parsed(payload: bytes) -> AdmissionEvent | None:
    try:
        return AdmissionEvent.FromString(payload)
    except DecodeError:
        return None


def _stored(payload: bytes, block: bytes | None, compressed: bool) -> bytes:
    return block if compressed and block is not None else payload


def _stored_all(
    payloads: Sequence[bytes], blocks: Sequence[bytes | None]
) -> tuple[list[bytes], list[int], list[bool]]:
    """What is stored of each, the size of each payload, and which of what is stored is a block."""
    sizes = list(map(len, payloads))
    there = [block for block in blocks if block is not None]
    if len(there) == len(sizes) and all(map(lt, map(len, there), sizes)):
        return there, sizes, [True] * len(sizes)
    compressed = [
        block is not None and len(block) < size for block, size in zip(blocks, sizes, strict=True)
    ]
    return list(map(_stored, payloads, blocks, compressed)), sizes, compressed


def _has_known_field(payload: bytes) -> bool:
    """Whether an event that says neither who, what nor when is an event of this schema at all."""
    try:
        event = NetworkSecurityEvent.FromString(payload)
    except DecodeError:
        return False
    return bool(event.ListFields())


def _readable(ns: int) -> str:
    if not MIN_NS <= ns <= MAX_NS:
        return f"{ns} ns"
    return datetime.fromtimestamp(ns // NS_PER_SECOND, tz=UTC).isoformat()
