"""Packet events made from the sample's flows, and the features of their flows computed plainly.

The plain computation knows nothing of streams: it sorts, cuts and asks numpy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np

from embed.chunk import EventBatch
from embed.flows import ACTIVE_NS, IDLE_NS, FlowAssembler
from proto.network_security_pb2 import NetworkSecurityEvent
from tests.embed_samples import Timed, sample_day

US = 1_000
NODE = "sniffer-1"


def packet(
    time_ns: int,
    source: tuple[str, int],
    destination: tuple[str, int],
    size: int,
    *,
    event_id: str = "",
    protocol: int = 6,
    node: str = NODE,
    own_ns: int | None = None,
    **flags: int,
) -> Timed:
    """What a per-packet detector publishes: addresses and a size."""
    event = NetworkSecurityEvent(
        event_id=event_id or f"{time_ns}", originating_node_id=node, final_classification="BENIGN"
    )
    event.event_timestamp.FromNanoseconds(time_ns if own_ns is None else own_ns)
    features = event.network_features
    features.source_ip, features.source_port = source
    features.destination_ip, features.destination_port = destination
    features.protocol_number = protocol
    features.total_forward_packets = 1
    features.total_forward_bytes = size
    features.minimum_packet_length = features.maximum_packet_length = size
    features.packet_length_mean = features.average_packet_size = size
    for name, count in flags.items():
        setattr(features, name, count)
    return time_ns, event


def packets_of_flows(day: date, flows: int, *, most: int = 30, seed: int = 1) -> list[Timed]:
    """Every flow of the sample's day taken apart into at most `most` packets each way, by time."""
    draw = np.random.default_rng(seed)
    found: list[Timed] = []
    for number, (start_ns, flow) in enumerate(sample_day(day)[:flows]):
        features = flow.network_features
        forth = min(max(int(features.total_forward_packets), 1), most)
        back = min(int(features.total_backward_packets), most)
        lasts = int(features.flow_duration_microseconds) * US
        offsets = np.sort(draw.integers(0, lasts + 1, forth + back)).tolist()
        ways = [True] * (forth - 1) + [False] * back
        draw.shuffle(ways)
        ends = (
            (features.source_ip, features.source_port),
            (features.destination_ip, features.destination_port),
        )
        for place, (offset, forward) in enumerate(zip(offsets, [True, *ways], strict=True)):
            mean = features.forward_packet_length_mean if forward else 0.0
            size = 60 + int(mean) + int(draw.integers(0, 200))
            source, destination = ends if forward else ends[::-1]
            found.append(
                packet(
                    start_ns + offset - offsets[0],
                    source,
                    destination,
                    size,
                    event_id=f"f{number}-p{place}",
                    protocol=features.protocol_number,
                    syn_flag_count=int(place == 0),
                    ack_flag_count=int(place > 0),
                    psh_flag_count=int(draw.integers(0, 2)),
                )
            )
    return sorted(found, key=lambda timed: timed[0])


def assemble(
    events: Sequence[Timed], *, cut: int = 500, assembler: FlowAssembler | None = None
) -> list[EventBatch]:
    """What the embedders are given of some events that come in batches of `cut`."""
    assembler = assembler or FlowAssembler()
    given = []
    for start in range(0, len(events), cut):
        part = events[start : start + cut]
        payloads = [event.SerializeToString() for _, event in part]
        batch = EventBatch.parse([time_ns for time_ns, _ in part], payloads)
        given.append(assembler.feed(batch, payloads))
    return [batch for batch in (*given, *assembler.finish()) if len(batch)]


def grouped(events: Iterable[Timed]) -> list[list[Timed]]:
    """The packets of each flow, by the rules of `embed.flows`, the flows in order of their start."""
    by_ends: dict[Any, list[Timed]] = defaultdict(list)
    for time_ns, event in events:
        features = event.network_features
        ends = frozenset(
            (
                (features.source_ip, features.source_port),
                (features.destination_ip, features.destination_port),
            )
        )
        key = (event.originating_node_id, features.protocol_number, ends)
        by_ends[key].append((time_ns, event))
    flows: list[list[Timed]] = []
    for packets in by_ends.values():
        flow: list[Timed] = []
        for time_ns, event in packets:
            if flow and (time_ns - flow[-1][0] > IDLE_NS or time_ns - flow[0][0] > ACTIVE_NS):
                flows.append(flow)
                flow = []
            flow.append((time_ns, event))
        flows.append(flow)
    return sorted(flows, key=lambda flow: (flow[0][0], flow[0][1].event_id))


def expected(packets: Sequence[Timed]) -> dict[str, float]:
    """The features of one flow, straight from their definitions."""
    first = packets[0][1].network_features
    source = (first.source_ip, first.source_port)
    rows = [
        (
            time_ns,
            event.network_features.maximum_packet_length,
            (event.network_features.source_ip, event.network_features.source_port) == source,
            event.network_features,
        )
        for time_ns, event in packets
    ]
    forth = [row for row in rows if row[2]]
    back = [row for row in rows if not row[2]]
    duration = (rows[-1][0] - rows[0][0]) // US
    sizes = [size for _, size, _, _ in rows]
    found: dict[str, float] = {
        "source_port": first.source_port,
        "destination_port": first.destination_port,
        "protocol_number": first.protocol_number,
        "flow_duration_microseconds": duration,
        "total_forward_packets": len(forth),
        "total_backward_packets": len(back),
        "total_forward_bytes": sum(size for _, size, _, _ in forth),
        "total_backward_bytes": sum(size for _, size, _, _ in back),
        "download_upload_ratio": len(back) / len(forth),
        "average_packet_size": float(np.mean(sizes)),
        "packet_length_mean": float(np.mean(sizes)),
        "packet_length_std": _deviation(sizes),
        "packet_length_variance": _deviation(sizes) ** 2,
        "minimum_packet_length": min(sizes),
        "maximum_packet_length": max(sizes),
        "forward_psh_flags": sum(row[3].psh_flag_count for row in forth),
        "backward_psh_flags": sum(row[3].psh_flag_count for row in back),
    }
    for flag in ("syn", "ack", "psh", "fin"):
        found[f"{flag}_flag_count"] = sum(getattr(row[3], f"{flag}_flag_count") for row in rows)
    for name, amount in (
        ("flow_bytes_per_second", sum(sizes)),
        ("flow_packets_per_second", len(rows)),
        ("forward_packets_per_second", len(forth)),
        ("backward_packets_per_second", len(back)),
    ):
        found[name] = amount / (duration / 1e6) if duration else 0.0
    for way, some in (("forward", forth), ("backward", back)):
        lengths = [size for _, size, _, _ in some]
        found[f"{way}_packet_length_max"] = max(lengths, default=0)
        found[f"{way}_packet_length_min"] = min(lengths, default=0)
        found[f"{way}_packet_length_mean"] = float(np.mean(lengths)) if lengths else 0.0
        found[f"average_{way}_segment_size"] = found[f"{way}_packet_length_mean"]
        found[f"{way}_packet_length_std"] = _deviation(lengths)
        found[f"{way}_inter_arrival_time_total"] = sum(_gaps(some)) / US
    for way, some in (("flow", rows), ("forward", forth), ("backward", back)):
        gaps = _gaps(some)
        found[f"{way}_inter_arrival_time_mean"] = float(np.mean(gaps)) / US if gaps else 0.0
        found[f"{way}_inter_arrival_time_std"] = _deviation(gaps) / US
        found[f"{way}_inter_arrival_time_max"] = max(gaps, default=0) // US
        found[f"{way}_inter_arrival_time_min"] = min(gaps, default=0) // US
    found["active_mean"], found["idle_mean"] = _stretches([row[0] for row in rows])
    return found


def _gaps(rows: Sequence[tuple[int, int, bool, Any]]) -> list[int]:
    return [after[0] - before[0] for before, after in pairwise(rows)]


def _deviation(values: Sequence[int]) -> float:
    return float(np.std(np.array(values, dtype=np.float64), ddof=1)) if len(values) > 1 else 0.0


def _stretches(times: Sequence[int]) -> tuple[float, float]:
    """Mean lengths of the busy and of the idle stretches, us; gaps above 5 s are idle."""
    cuts = [place for place in range(1, len(times)) if times[place] - times[place - 1] > 5 * 10**9]
    if not cuts:
        return 0.0, 0.0
    edges = list(pairwise([0, *cuts, len(times)]))
    busy = [times[stop - 1] - times[start] for start, stop in edges]
    busy = [length for length in busy if length > 0]
    idle = [times[cut] - times[cut - 1] for cut in cuts]
    return (float(np.mean(busy)) / US if busy else 0.0), float(np.mean(idle)) / US
