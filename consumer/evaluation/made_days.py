"""Days made out of recorded flows, and their rows as the service makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow.parquet as pq

from consumer.days import NS_PER_DAY, day_bounds_ns
from consumer.replay.flows import FlowRecording
from embed.chunk import ChunkSpan, EventBatch
from embed.embedder import Embedder
from embed.rows import Vectors
from models.labels import BENIGN, plain_labels
from proto.network_security_pb2 import NetworkSecurityEvent

FIRST = date(2001, 1, 1)

Event = tuple[int, NetworkSecurityEvent]


@dataclass(frozen=True, slots=True)
class MadeDay:
    """A day to embed.

    Attributes:
        kind: "ordinary", or what was planted in it.
        events: time of the day (ns since its start) and event, in the order of time.
    """

    kind: str
    events: list[Event]


@dataclass(frozen=True, slots=True)
class Recorded:
    """Recorded events, each with its time of the day, as the simulated detector tells of them.

    Attributes:
        by_label: in the order of time, by the label of the flow.
        benign_by_day: benign ones by their day, counted from 1 January 1970, the first day first.
    """

    by_label: dict[str, list[Event]]
    benign_by_day: dict[int, list[Event]]


def recorded_events(flows: Path) -> Recorded:
    """The events of a Parquet file of labelled flows, ordered by time."""
    found = Recorded({}, {})
    column = pq.read_table(flows, columns=["label"])["label"]
    labels = plain_labels(column.to_pylist()).tolist()
    for (time_ns, event), label in zip(
        FlowRecording(flows, node="evaluation", seed=0), labels, strict=True
    ):
        day, of_day = divmod(time_ns, NS_PER_DAY)
        found.by_label.setdefault(label, []).append((of_day, event))
        if label == BENIGN:
            found.benign_by_day.setdefault(day, []).append((of_day, event))
    return found


def time_of(event: Event) -> int:
    """By what the events of a day are sorted."""
    return event[0]


def day_rows(embedder: Embedder, days: Sequence[MadeDay]) -> Vectors:
    """The day's row of each day, float32 (days, d)."""
    rows = []
    for number, made in enumerate(days):
        day = FIRST + timedelta(days=number)
        start_ns, end_ns = day_bounds_ns(day, ZoneInfo("UTC"))
        embedder.begin(ChunkSpan(day, 1, start_ns, end_ns, len(made.events)))
        times = [start_ns + at for at, _ in made.events]
        embedder.add(EventBatch(times, [event for _, event in made.events]))
        rows.append(next(embedder.finish().blocks).vectors[0])
    return np.stack(rows)
