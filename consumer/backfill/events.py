"""Events that carry their own identity, on their way to a sink."""

from __future__ import annotations

from typing import NamedTuple

from consumer.backfill.known import KnownEvents
from consumer.backfill.sinks import Sink
from consumer.backfill.tally import Tally
from consumer.days import MAX_NS, NS_PER_SECOND
from consumer.reception.sources import Arrival
from consumer.wire.admission import YEAR_2000_NS
from proto.admission_pb2 import AdmissionEvent

#: What imported events are said to come from.
SOURCE = "import"


class PastEvent(NamedTuple):
    """An event and when it was: UTC ns, its own time if that can be believed."""

    time_ns: int
    own_time: bool
    payload: bytes


def past_event(payload: bytes, logged_ns: int) -> PastEvent:
    """Date an event; `logged_ns` is for one whose own time counts from a boot, or is missing.

    Raises:
        DecodeError: the payload is not of the schema.
    """
    stamp = AdmissionEvent.FromString(payload).event_timestamp
    own_ns = stamp.seconds * NS_PER_SECOND + stamp.nanos
    if YEAR_2000_NS < own_ns <= MAX_NS and 0 <= stamp.nanos < NS_PER_SECOND:
        return PastEvent(own_ns, True, payload)
    return PastEvent(logged_ns, False, payload)


class PastEvents:
    """Puts events into a sink, in the order of their time, unless their record is there already.

    Args:
        now_ns: when the import began, UTC ns: the arrival of events that have their own time.
        ahead_ns: how far after it an event may be; the sink refuses what is later.
    """

    def __init__(
        self, sink: Sink, known: KnownEvents, tally: Tally, *, now_ns: int, ahead_ns: int
    ) -> None:
        self._sink = sink
        self._known = known
        self._tally = tally
        self._now_ns = now_ns
        self._latest_ns = now_ns + ahead_ns

    def put(self, events: list[PastEvent], *, recognise: bool = True) -> None:
        """Put some events. Raises as `Sink.put` does, and OSError if the journal cannot be read.

        With `recognise` false they are put without a look at the records that are there.
        """
        arrivals: list[Arrival] = []
        for event in sorted(events, key=lambda event: event.time_ns):
            if event.time_ns > self._latest_ns:
                # The sink refuses it; it belongs to no day.
                self._tally.read += 1
            else:
                day = self._tally.event(event.time_ns)
                if recognise and self._known.has_record_of(event.payload, day):
                    self._tally.duplicates += 1
                    continue
            arrival_ns = self._now_ns if event.own_time else event.time_ns
            arrivals.append(Arrival(SOURCE, arrival_ns, event.payload, sealed=False))
        self._sink.put(arrivals)
