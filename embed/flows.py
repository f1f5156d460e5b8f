"""Flows out of packets, for detectors that publish one event per packet.

A packet event says who sent how much to whom and nothing of a flow (`packet_size` has the exact
predicate). Events of the same node, protocol and pair of address and port, in either direction,
are one flow until 60 s pass without one or until it has lasted 120 s; its first packet says which
direction is forward. A flow also ends with its day. What is derived, and how, is in
`embed.flow_stats`; everything else (scores, verdict, places, tags) is that of the packet that
alarmed the detector most: flagged before unflagged, then by score, then the first.

The time between two packets is taken from the sensor's own clock, whatever it counts from, where
it agrees with the effective time within 60 s, else from the effective time. A packet that comes
before its predecessor counts with a gap of 0.

Everything else passes through untouched and in its place. Nothing depends on how the events are
cut into batches.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from embed.chunk import EventBatch, Origin
from embed.flags import alarm
from embed.flow_stats import FlowStats
from embed.sensors import PLAIN, Sensors
from proto.network_security_pb2 import NetworkSecurityEvent

_S = 1_000_000_000
IDLE_NS = 60 * _S
ACTIVE_NS = 120 * _S
# As long as times do not run back, a flow that this rule gives up could not have gone on: own and
# effective time differ by IDLE_NS at most, and so does a gap within a flow.
STALE_NS = 2 * IDLE_NS
LARGEST_PACKET = 1 << 24
MOST_FLOWS = 50_000
MOST_BYTES = 64 << 20
EVENT_IDS = 20
ALERT_PREFIX = "fast-alert-"

_Key = tuple[int, str, int, str, int]


def packet_size(event: NetworkSecurityEvent) -> int:
    """The size of the packet that an event tells of, in bytes; 0 if it is no packet event.

    A packet event has both addresses and a size (the first of `maximum_packet_length`,
    `total_forward_bytes`, `packet_length_mean`, `average_packet_size` that is not 0, at most
    16 MiB), counts at most one packet forward and none backward, and has neither a duration nor
    lengths by direction nor times between packets. An alert of the fast detector is none.
    """
    if not event.HasField("network_features"):
        return 0
    packet = event.network_features
    if (
        packet.flow_duration_microseconds
        or packet.total_forward_packets > 1
        or packet.total_backward_packets
        or packet.total_backward_bytes
        or packet.forward_packet_length_max
        or packet.flow_inter_arrival_time_max
        or not packet.source_ip
        or not packet.destination_ip
        or event.event_id.startswith(ALERT_PREFIX)
    ):
        return 0
    size: float = (
        packet.maximum_packet_length
        or packet.total_forward_bytes
        or packet.packet_length_mean
        or packet.average_packet_size
    )
    # NaN compares false.
    return round(size) if 0 < size <= LARGEST_PACKET else 0


@dataclass(slots=True, eq=False)
class _Flow:
    """A flow that may go on."""

    source: tuple[str, int]
    destination: tuple[str, int]
    number: int
    start_ns: int
    last_ns: int
    own_ns: int
    speaker: NetworkSecurityEvent
    speaker_bytes: int
    alarm: tuple[bool, float]
    stats: FlowStats = field(default_factory=FlowStats)
    event_ids: list[str] = field(default_factory=list)
    digest: int = 0


@dataclass(slots=True)
class FlowFacts:
    """What went in and what came out.

    Attributes:
        packets: packet events taken.
        packets_out: packet events in the flows that were given.
        flows: flows that were given.
        cut: those among them that ended early because of the limits.
    """

    packets: int = 0
    packets_out: int = 0
    flows: int = 0
    cut: int = 0

    def coverage(self) -> dict[str, int]:
        """For the coverage of an index; nothing if there was no packet."""
        if not self.packets:
            return {}
        return {
            "packet_events": self.packets,
            "packet_events_in_flows": self.packets_out,
            "packet_flows": self.flows,
            "packet_flows_cut": self.cut,
        }


class FlowAssembler:
    """Takes the batches of one chunk in the journal's order; see the module.

    Memory is bounded: at most `most_flows` flows are open, and the events that speak for them take
    at most `most_bytes`; at both limits that was measured as 300 MiB. Beyond either limit the longest silent flow of the
    longest silent node ends early, whole in itself; what comes after begins another flow.

    Args:
        sensors: the site's sensors.
        most_flows: see above.
        most_bytes: see above, as the events lie on the wire.
    """

    def __init__(
        self,
        sensors: Sensors = PLAIN,
        *,
        most_flows: int = MOST_FLOWS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.facts = FlowFacts()
        self._sensors = sensors
        self._most_flows = most_flows
        self._most_bytes = most_bytes
        # Both in the order of their last packet. A node without an open flow is not there.
        self._nodes: OrderedDict[str, OrderedDict[_Key, _Flow]] = OrderedDict()
        self._open = 0
        self._held = 0
        self._numbers = 0
        self._out = _Out()

    def feed(self, batch: EventBatch, payloads: Sequence[bytes]) -> EventBatch:
        """The batch without its packet events, and with the flows that ended with it.

        Packet events belong to the assembler from here on; it changes them. A batch without any is
        given back as it is.

        Args:
            batch: the next events.
            payloads: the same events as received.
        """
        sizes = [packet_size(event) for event in batch.events]
        if not any(sizes):
            return batch
        rows = zip(batch.events, batch.times.tolist(), sizes, payloads, strict=True)
        for event, time_ns, size, payload in rows:
            if size:
                self._take(event, time_ns, size, payload)
            else:
                self._out.put(time_ns, event)
        return self._out.batch(self._sensors, unreadable=batch.unreadable)

    def finish(self, size: int = 2048) -> Iterator[EventBatch]:
        """The flows that are still open, in the order of their start, `size` at a time."""
        rest = [flow for flows in self._nodes.values() for flow in flows.values()]
        self._nodes.clear()
        self._open = self._held = 0
        rest.sort(key=lambda flow: (flow.start_ns, flow.number))
        for start in range(0, len(rest), size):
            for flow in rest[start : start + size]:
                self._give(flow)
            yield self._out.batch(self._sensors)

    def _take(self, event: NetworkSecurityEvent, time_ns: int, size: int, payload: bytes) -> None:
        self.facts.packets += 1
        node, packet = event.originating_node_id, event.network_features
        source = (packet.source_ip, packet.source_port)
        destination = (packet.destination_ip, packet.destination_port)
        low, high = (source, destination) if source <= destination else (destination, source)
        key = (packet.protocol_number, *low, *high)
        stamp = event.event_timestamp
        own_ns = stamp.seconds * _S + stamp.nanos

        self._sweep(node, time_ns)
        flows = self._nodes.get(node)
        flow = None if flows is None else flows.get(key)
        gap_ns = 0 if flow is None else _gap(flow, time_ns, own_ns)
        if flow is not None and not (
            -IDLE_NS <= gap_ns <= IDLE_NS and flow.stats.elapsed_ns + gap_ns <= ACTIVE_NS
        ):
            self._end(node, key)
            flow, gap_ns = None, 0
        loud = alarm(event)
        if flow is None:
            self._numbers += 1
            length = len(payload)
            flow = _Flow(
                source, destination, self._numbers, time_ns, time_ns, own_ns, event, length, loud
            )
            # Ending a flow may have removed the node's table.
            flows = self._nodes.setdefault(node, OrderedDict())
            flows[key] = flow
            self._open += 1
            self._held += length
        else:
            assert flows is not None  # noqa: S101 - the flow came out of it
            flows.move_to_end(key)
            if loud > flow.alarm:
                self._held += len(payload) - flow.speaker_bytes
                flow.speaker, flow.speaker_bytes, flow.alarm = event, len(payload), loud
            if gap_ns > 0:
                flow.own_ns = own_ns
            flow.last_ns = max(flow.last_ns, time_ns)
        self._nodes.move_to_end(node)
        flow.stats.add(max(gap_ns, 0), size, packet, forward=source == flow.source)
        if len(flow.event_ids) < EVENT_IDS:
            flow.event_ids.append(event.event_id)
        flow.digest += _digest(payload, time_ns)
        while self._open > 1 and (self._open > self._most_flows or self._held > self._most_bytes):
            silent = next(iter(self._nodes))
            self.facts.cut += 1
            self._end(silent, next(iter(self._nodes[silent])))

    def _sweep(self, node: str, now_ns: int) -> None:
        """End what was silent for too long, or lies in another time altogether (an import)."""
        while (flows := self._nodes.get(node)) is not None:
            key, flow = next(iter(flows.items()))
            if abs(now_ns - flow.last_ns) <= STALE_NS:
                return
            self._end(node, key)

    def _end(self, node: str, key: _Key) -> None:
        flows = self._nodes[node]
        flow = flows.pop(key)
        if not flows:
            del self._nodes[node]
        self._open -= 1
        self._held -= flow.speaker_bytes
        self._give(flow)

    def _give(self, flow: _Flow) -> None:
        event = flow.speaker
        event.event_id = flow.event_ids[0]
        features = event.network_features
        features.source_ip, features.source_port = flow.source
        features.destination_ip, features.destination_port = flow.destination
        features.flow_start_time.FromNanoseconds(flow.start_ns)
        flow.stats.fill(features)
        packets = flow.stats.packets
        self.facts.flows += 1
        self.facts.packets_out += packets
        origin = Origin(packets, tuple(flow.event_ids), flow.last_ns, flow.digest & (2**64 - 1))
        self._out.put(flow.start_ns, event, origin)


def assembled(
    batch: EventBatch, payloads: Sequence[bytes], sensors: Sensors = PLAIN
) -> list[EventBatch]:
    """A batch on its own as the embedders see it: packet events in it become flows."""
    assembler = FlowAssembler(sensors)
    return [one for one in (assembler.feed(batch, payloads), *assembler.finish()) if len(one)]


class _Out:
    """The batch that is being put together."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._times: list[int] = []
        self._events: list[NetworkSecurityEvent] = []
        self._origins: dict[int, Origin] = {}

    def put(self, time_ns: int, event: NetworkSecurityEvent, origin: Origin | None = None) -> None:
        if origin is not None:
            self._origins[len(self._events)] = origin
        self._times.append(time_ns)
        self._events.append(event)

    def batch(self, sensors: Sensors, *, unreadable: int = 0) -> EventBatch:
        made = EventBatch(
            self._times,
            self._events,
            unreadable=unreadable,
            sensors=sensors,
            origins=self._origins,
        )
        self._clear()
        return made


def _gap(flow: _Flow, time_ns: int, own_ns: int) -> int:
    """Time since the flow's last packet, ns; see the module."""
    seen = time_ns - flow.last_ns
    if not own_ns or not flow.own_ns:
        return seen
    told = own_ns - flow.own_ns
    return told if abs(told - seen) <= IDLE_NS else seen


def _digest(payload: bytes, time_ns: int) -> int:
    sums = hashlib.blake2b(payload, digest_size=8)
    sums.update(time_ns.to_bytes(8, "little", signed=True))
    return int.from_bytes(sums.digest(), "little")
