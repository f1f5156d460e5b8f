"""What an embedder is given: the span of a closed day, and its events in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from embed.columns import Columns, read_columns
from embed.features import BYTES, PACKETS, FeatureTable, extract, whole_sums
from embed.flags import flagged
from embed.sensors import PLAIN, Sensors
from proto.admission_pb2 import AdmissionEvent
from proto.network_security_pb2 import NetworkSecurityEvent

MINUTE_NS = 60_000_000_000


@dataclass(frozen=True, slots=True)
class ChunkSpan:
    """A closed day: its bounds and how many events it holds.

    Attributes:
        day: the calendar day in the service's time zone.
        revision: 1 for the first close, more for each close after late events.
        start_ns: first instant of the day, UTC ns since 1970.
        end_ns: first instant of the next day. 23 and 25 hours happen.
        events: number of events in the chunk.
    """

    day: date
    revision: int
    start_ns: int
    end_ns: int
    events: int

    @property
    def minutes(self) -> int:
        """Minutes of the day: 1,440, or 1,380 and 1,500 when the clock changes."""
        return -(-(self.end_ns - self.start_ns) // MINUTE_NS)


class Origin(NamedTuple):
    """What an entry of a batch was made of, where it is not an event itself (`embed.flows`).

    Attributes:
        events: how many events of the chunk.
        event_ids: the ids of the first 20 of them.
        last_ns: effective time of the latest, UTC ns; that of the first is the entry's.
        digest: of their times and bytes, below 2**64, whatever their order.
    """

    events: int
    event_ids: tuple[str, ...]
    last_ns: int
    digest: int


class EventBatch:
    """Events of one chunk, parsed once for all embedders.

    Attributes:
        times: int64 (n,), effective time of each event, UTC ns.
        events: the n events.
        unreadable: how many payloads are not a whole event. They stay in the batch with what
            admission could read of them, everything else missing.
        origins: by place, what flows that were assembled from packet events stand for. Every other
            entry is one event of the chunk.
    """

    def __init__(
        self,
        times: Sequence[int],
        events: list[NetworkSecurityEvent],
        *,
        unreadable: int = 0,
        sensors: Sensors = PLAIN,
        origins: Mapping[int, Origin] | None = None,
    ) -> None:
        if len(times) != len(events):
            raise ValueError(
                f"a batch needs one time per event: {len(times)} times, {len(events)} events"
            )
        self.times: NDArray[np.int64] = np.array(times, dtype=np.int64)
        self.events = events
        self.unreadable = unreadable
        self.origins: Mapping[int, Origin] = {} if origins is None else origins
        self._sensors = sensors

    def __len__(self) -> int:
        return len(self.events)

    @classmethod
    def parse(
        cls,
        times: Sequence[int],
        payloads: Sequence[bytes],
        *,
        sensors: Sensors = PLAIN,
    ) -> EventBatch:
        """Parse raw protobuf payloads.

        Args:
            times: effective time of each event, UTC ns.
            payloads: the events as received.
            sensors: which nodes write the IPv4 addresses of packet events with their bytes
                reversed (events whose id begins with `fast-alert-` are right even there), and
                which number says "not measured".

        Never raises for a bad payload: admission reads only three fields of an event, so one with
        a broken inner message can be in a journal. It is counted in `unreadable`.
        """
        events: list[NetworkSecurityEvent] = []
        unreadable = 0
        parse = NetworkSecurityEvent.FromString
        for payload in payloads:
            try:
                event = parse(payload)
            except DecodeError:
                event = _salvage(payload)
                unreadable += 1
            events.append(event)
        if sensors.any_turned:
            for event in events:
                if sensors.of(event.originating_node_id).turned:
                    _turn_addresses(event)
        return cls(times, events, unreadable=unreadable, sensors=sensors)

    @cached_property
    def table(self) -> FeatureTable:
        """The 83 features of each event and what was refused; computed at first use."""
        missing = self._sensors.one_missing
        if missing is not None:
            return extract(self.events, self.times, missing)
        by_row = [self._sensors.of(event.originating_node_id).missing for event in self.events]
        return extract(self.events, self.times, np.array(by_row).reshape(-1, 1))

    @cached_property
    def columns(self) -> Columns:
        """Addresses, ports and words of each event; computed at first use."""
        return read_columns(self.events)

    @cached_property
    def tags(self) -> list[tuple[str, ...]]:
        """The tags of each event."""
        # A slice of a repeated field costs half of what going through it does.
        return [tuple(event.event_tags[:]) for event in self.events]

    @cached_property
    def sources(self) -> NDArray[np.int64]:
        """Source addresses as numbers, int64 (n,); -1 without network features."""
        return self.columns.address_values(self.columns.sources)

    @cached_property
    def destinations(self) -> NDArray[np.int64]:
        """Destination addresses as numbers, int64 (n,); -1 without network features."""
        return self.columns.address_values(self.columns.destinations)

    @cached_property
    def ports(self) -> NDArray[np.int64]:
        """Destination ports, int64 (n,); -1 without network features."""
        ports = np.array(self.columns.ports, dtype=np.int64)
        return np.where(np.array(self.columns.present, dtype=np.bool_), ports, -1)

    @property
    def features(self) -> NDArray[np.float64]:
        """The 83 features, float64 (n, 83), raw, NaN = missing."""
        return self.table.values

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How many events of the chunk each entry stands for, int64 (n,)."""
        counts = np.ones(len(self), dtype=np.int64)
        for place, origin in self.origins.items():
            counts[place] = origin.events
        return counts

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Time of the latest event behind each entry, int64 (n,), UTC ns."""
        if not self.origins:
            return self.times
        ends = self.times.copy()
        for place, origin in self.origins.items():
            ends[place] = max(int(ends[place]), origin.last_ns)
        return ends

    @property
    def origin_numbers(self) -> NDArray[np.uint64]:
        """What the fingerprints take of the origins, uint64 (origins, 3)."""
        numbers = [(one.events, one.last_ns, one.digest) for one in self.origins.values()]
        return np.array(numbers, dtype=np.uint64).reshape(-1, 3)

    @cached_property
    def volumes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bytes and packets of both directions, int64 (n,) each; what is missing counts 0."""
        return whole_sums(self.features, BYTES), whole_sums(self.features, PACKETS)

    @cached_property
    def flagged(self) -> NDArray[np.bool_]:
        """Which events the detector flagged, bool (n,); see `embed.flags`."""
        return flagged(self.columns.classifications, self.features)


def _salvage(payload: bytes) -> NetworkSecurityEvent:
    try:
        known = AdmissionEvent.FromString(payload)
    except DecodeError:
        return NetworkSecurityEvent()
    return NetworkSecurityEvent(
        event_id=known.event_id, originating_node_id=known.originating_node_id
    )


def _turn_addresses(event: NetworkSecurityEvent) -> None:
    if event.event_id.startswith("fast-alert-") or not event.HasField("network_features"):
        return
    network = event.network_features
    network.source_ip = _reversed_ipv4(network.source_ip)
    network.destination_ip = _reversed_ipv4(network.destination_ip)


def _reversed_ipv4(address: str) -> str:
    parts = address.split(".")
    return ".".join(reversed(parts)) if len(parts) == 4 else address
