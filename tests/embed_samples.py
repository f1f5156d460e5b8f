"""Events and chunks for the tests of the embedders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import consumer.replay
from consumer.replay.flows import FlowRecording
from embed.chunk import ChunkSpan, EventBatch
from embed.embedder import Embedder
from embed.rows import Embedded, RowFacts, Vectors
from proto.network_security_pb2 import NetworkSecurityEvent

SAMPLE = Path(consumer.replay.__file__).parent / "sample_flows.parquet"
DAY = date(2017, 7, 4)
DAY_NS = 86_400_000_000_000
START_NS = int(datetime(2017, 7, 4, tzinfo=UTC).timestamp()) * 1_000_000_000

Timed = tuple[int, NetworkSecurityEvent]


def event(at_s: float = 0.0, **changes: Any) -> Timed:
    """An SSH session, `at_s` seconds after midnight; `changes` by field, `network_` for features."""
    message = NetworkSecurityEvent(
        event_id=str(changes.pop("event_id", f"e-{at_s}")),
        originating_node_id="node",
        overall_threat_score=0.1,
        final_classification="BENIGN",
        threat_category="NORMAL",
    )
    network = message.network_features
    values: dict[str, Any] = {
        "source_ip": "10.0.0.7",
        "destination_ip": "10.0.0.9",
        "source_port": 50_000,
        "destination_port": 22,
        "protocol_number": 6,
        "flow_duration_microseconds": 9_000_000,
        "total_forward_packets": 20,
        "total_backward_packets": 30,
        "total_forward_bytes": 2_000,
        "total_backward_bytes": 2_700,
        "syn_flag_count": 2,
        "fin_flag_count": 2,
    }
    for name, value in changes.items():
        if name.startswith("network_"):
            values[name.removeprefix("network_")] = value
        else:
            setattr(message, name, value)
    for name, value in values.items():
        setattr(network, name, value)
    return START_NS + int(at_s * 1e9), message


def span(events: int, *, hours: int = 24) -> ChunkSpan:
    return ChunkSpan(DAY, 1, START_NS, START_NS + hours * 3_600_000_000_000, events)


def batches(events: Sequence[Timed], size: int = 1000) -> Iterator[EventBatch]:
    for start in range(0, len(events), size):
        part = events[start : start + size]
        payloads = [message.SerializeToString() for _, message in part]
        yield EventBatch.parse([time_ns for time_ns, _ in part], payloads)


def fold(
    embedder: Embedder, events: Sequence[Timed], *, size: int = 1000, hours: int = 24
) -> tuple[Vectors, list[RowFacts], dict[str, int]]:
    """A whole chunk: its vectors, facts and coverage."""
    embedder.begin(span(len(events), hours=hours))
    for batch in batches(events, size):
        embedder.add(batch)
    return read(embedder.finish())


def read(embedded: Embedded) -> tuple[Vectors, list[RowFacts], dict[str, int]]:
    found = list(embedded.blocks)
    vectors = np.vstack([block.vectors for block in found])
    return vectors, [fact for block in found for fact in block.facts], embedded.coverage


@cache
def sample() -> tuple[Timed, ...]:
    """Every flow of the shipped sample as an event, in the order of its time."""
    flows = FlowRecording(SAMPLE, node="demo")
    return tuple(sorted(flows, key=lambda timed: timed[0]))


@cache
def sample_day(day: date) -> tuple[Timed, ...]:
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000_000
    return tuple(timed for timed in sample() if start <= timed[0] < start + DAY_NS)
