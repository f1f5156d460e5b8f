"""The descriptions of the shipped flows, day by day, with the detector's verdicts or without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import groupby
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

import consumer.replay
from consumer.days import day_bounds_ns
from consumer.replay.flows import FlowRecording
from embed.behaviour import behaviours
from embed.chunk import ChunkSpan, EventBatch
from embed.company import CompanyBook
from embed.describe import describe
from index.store import RowIds, row_id
from proto.network_security_pb2 import NetworkSecurityEvent

FLOWS = Path(consumer.replay.__file__).with_name("sample_flows.parquet")
NODE = "evaluation"
SEED = 0
# All that a detector says of an event. The rest was seen on the wire.
VERDICT_FIELDS = (
    "final_classification",
    "threat_category",
    "fast_detector_triggered",
    "fast_detector_reason",
    "authoritative_source",
    "decision_metadata",
    "ml_analysis",
    "provenance",
    "human_review",
    "event_tags",
)
SCORE_FIELDS = ("overall_threat_score", "fast_detector_score", "ml_detector_score")

Alter = Callable[[NetworkSecurityEvent], None]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Rows as the semantic index holds them.

    Attributes:
        ids: identifiers of the n rows, ascending.
        texts: their descriptions.
        row_of_flow: int64, the row of each flow of the recording, in the order of the file.
    """

    ids: RowIds
    texts: list[str]
    row_of_flow: NDArray[np.int64]


def blank_verdict(event: NetworkSecurityEvent) -> None:
    """Take out of an event all that a detector said; a score becomes missing, which is not 0."""
    for name in VERDICT_FIELDS:
        event.ClearField(name)
    for name in SCORE_FIELDS:
        setattr(event, name, float("nan"))


def described(recording: Path, *, verdicts: bool) -> Corpus:
    """Describe every flow of a recording, in the order of time.

    Args:
        recording: Parquet file of flows, ordered by time.
        verdicts: keep the simulated verdicts (seed 0), or blank them all.
    """
    ids: list[int] = []
    texts: list[str] = []
    rows: list[int] = []
    flows = FlowRecording(recording, node=NODE, seed=SEED)
    for day, of_day in groupby(flows, key=lambda flow: _day(flow[0])):
        times, events = map(list, zip(*of_day, strict=True))
        if not verdicts:
            for event in events:
                blank_verdict(event)
        found = _describe_day(day, times, events)
        numbers = {text: number for number, text in enumerate(sorted(set(found)))}
        rows += [len(ids) + numbers[text] for text in found]
        # Row 0 stands for the day.
        ids += [row_id(day, 1, 1 + number) for number in range(len(numbers))]
        texts += list(numbers)
    return Corpus(np.array(ids, dtype=np.int64), texts, np.array(rows, dtype=np.int64))


def _day(time_ns: int) -> date:
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).date()


def _describe_day(day: date, times: list[int], events: list[NetworkSecurityEvent]) -> list[str]:
    start_ns, end_ns = day_bounds_ns(day, ZoneInfo("UTC"))
    span = ChunkSpan(day, 1, start_ns, end_ns, len(events))
    batch = EventBatch(times, events)
    return [describe(one) for one in behaviours(batch, span, CompanyBook())]
