"""Recorded flows in a Parquet file, turned into the events that a detector would send of them.

A column named like a field of ``NetworkFeatures`` fills that field; one that is absent, or null in
a row, leaves it unset. ``timestamp`` (the start of the flow; UTC if it has no zone) is needed. ``label`` is read for
the simulated verdict alone (see `consumer.replay.verdicts`) and is never sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import repeat
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf.descriptor import FieldDescriptor
from numpy.typing import NDArray

from consumer.days import NS_PER_SECOND, day_bounds_ns
from consumer.errors import UsageError
from consumer.replay.verdicts import TRAFFIC_COLUMNS, Floats, Verdict, judge
from proto import network_security_pb2
from proto.network_security_pb2 import NetworkSecurityEvent

BATCH_ROWS: Final = 1024
SCHEMA_VERSION: Final = 31
SENDER_VERSION: Final = "3.1.0"
TAGS: Final = ("replayed_flow", "simulated_verdict")

_PROTOCOL_NAMES: Final = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6"}
_ARROW_TYPES: Final = {
    FieldDescriptor.CPPTYPE_DOUBLE: pa.float64(),
    FieldDescriptor.CPPTYPE_UINT32: pa.int64(),
    FieldDescriptor.CPPTYPE_UINT64: pa.int64(),
    FieldDescriptor.CPPTYPE_STRING: pa.string(),
    FieldDescriptor.CPPTYPE_BOOL: pa.bool_(),
}


def _fillable() -> dict[str, pa.DataType]:
    features = network_security_pb2.DESCRIPTOR.message_types_by_name["NetworkFeatures"]
    return {
        field.name: _ARROW_TYPES[field.cpp_type]
        for field in features.fields
        if not field.is_repeated and field.cpp_type in _ARROW_TYPES
    }


def event_id_of(node: str, row: int) -> str:
    """The event id of a replayed flow: the node and the number of its row in the file, from 0."""
    return f"{node}-{row:07d}"


class FlowRecording:
    """The flows of one Parquet file as events, read batch by batch.

    A flow's event id (`event_id_of`) is the same whatever else is selected, so that a second replay
    sends duplicates and not new events.

    Args:
        path: the Parquet file.
        node: name of the sensor that the events come from.
        seed: of the simulated verdicts.
        days: only flows that start on these UTC days; None for all.
        newer: whether to fill the fields that only newer detectors have.

    Raises:
        UsageError: not a Parquet file, or without a usable ``timestamp`` column.
    """

    def __init__(
        self,
        path: Path,
        *,
        node: str,
        seed: int = 0,
        days: frozenset[date] | None = None,
        newer: bool = True,
    ) -> None:
        self._path = path
        self._node = node
        self._seed = seed
        self._newer = newer
        self._days_ns = (
            None if days is None else [day_bounds_ns(day, ZoneInfo("UTC")) for day in days]
        )
        with self._open() as file:
            schema = file.schema_arrow
        if "timestamp" not in schema.names or not pa.types.is_timestamp(
            schema.field("timestamp").type
        ):
            raise UsageError(
                f"{path}: no column 'timestamp' of type timestamp; it says when each flow began"
            )
        self._types = {name: kind for name, kind in _fillable().items() if name in schema.names}
        self._labelled = "label" in schema.names

    def __iter__(self) -> Iterator[tuple[int, NetworkSecurityEvent]]:
        """Start time (UTC ns) and event of each selected flow, in the order of the file.

        Raises:
            UsageError: a value that its field cannot hold; names the row.
        """
        names = ["timestamp", *self._types, *(["label"] if self._labelled else [])]
        first_row = 0
        for batch in self._batches(names):
            yield from self._events(batch, first_row)
            first_row += batch.num_rows

    def _batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        with self._open() as file:
            try:
                yield from file.iter_batches(BATCH_ROWS, columns=names)
            except (OSError, pa.ArrowException) as error:
                raise UsageError(f"{self._path}: cannot be read to its end: {error}") from error

    def _open(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self._path)
        except FileNotFoundError as error:
            raise UsageError(f"{self._path}: no such file") from error
        except (OSError, pa.ArrowInvalid) as error:
            raise UsageError(f"{self._path}: not a readable Parquet file: {error}") from error

    def _events(
        self, batch: pa.RecordBatch, first_row: int
    ) -> Iterator[tuple[int, NetworkSecurityEvent]]:
        times = self._times(batch, first_row)
        rows = np.arange(first_row, first_row + batch.num_rows, dtype=np.int64)
        if self._days_ns is not None:
            chosen = np.zeros(len(times), dtype=np.bool_)
            for start_ns, end_ns in self._days_ns:
                chosen |= (times >= start_ns) & (times < end_ns)
            if not chosen.any():
                return
            batch, times, rows = batch.filter(pa.array(chosen)), times[chosen], rows[chosen]

        columns = {name: self._column(batch, name) for name in self._types}
        verdicts = judge(rows, _traffic(batch), self._labels(batch), seed=self._seed)
        cells = zip(*columns.values(), strict=True) if columns else repeat((), len(rows))
        for row, time_ns, verdict, values in zip(
            rows.tolist(), times.tolist(), verdicts, cells, strict=True
        ):
            # Dictionaries all the way down are filled in place; a message given to a constructor
            # is copied by serialising it, which doubles the cost of an event.
            features: dict[str, Any] = dict(zip(columns, values, strict=True))
            try:
                event = self._event(row, time_ns, features, verdict)
            except (ValueError, TypeError) as error:
                raise UsageError(f"{self._path}: row {row}: {error}") from error
            yield time_ns, event

    def _times(self, batch: pa.RecordBatch, first_row: int) -> NDArray[np.int64]:
        column = batch.column("timestamp")
        if column.null_count:
            row = first_row + column.is_null().index(pa.scalar(True)).as_py()
            raise UsageError(f"{self._path}: row {row}: no timestamp; it says when the flow began")
        try:
            nanoseconds = column.cast(pa.timestamp("ns", tz=column.type.tz)).cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise UsageError(f"{self._path}: column timestamp: {error}") from error
        times: NDArray[np.int64] = nanoseconds.to_numpy(zero_copy_only=False)
        return times

    def _column(self, batch: pa.RecordBatch, name: str) -> list[Any]:
        try:
            column = batch.column(name).cast(self._types[name])
        except pa.ArrowInvalid as error:
            raise UsageError(f"{self._path}: column {name}: {error}") from error
        values: list[Any]
        if column.null_count == 0 and pa.types.is_primitive(column.type):
            values = column.to_numpy(zero_copy_only=False).tolist()
        else:
            # The constructor of a message takes None for "leave it unset".
            values = column.to_pylist()
        return values

    def _labels(self, batch: pa.RecordBatch) -> list[str] | None:
        if not self._labelled:
            return None
        labels: list[str] = batch.column("label").to_pylist()
        return labels

    def _event(
        self, row: int, time_ns: int, features: dict[str, Any], verdict: Verdict
    ) -> NetworkSecurityEvent:
        node = self._node
        seconds, nanos = divmod(time_ns, NS_PER_SECOND)
        began = {"seconds": seconds, "nanos": nanos}
        features["flow_start_time"] = began
        lasted = features.get("flow_duration_microseconds")
        if lasted is not None:
            seconds, micros = divmod(lasted, 1_000_000)
            features["flow_duration"] = {"seconds": seconds, "nanos": micros * 1000}
        number = features.get("protocol_number")
        if number is not None and "protocol_name" not in features:
            features["protocol_name"] = _PROTOCOL_NAMES.get(number, f"IP-{number}")
        event_id = event_id_of(node, row)
        return NetworkSecurityEvent(
            event_id=event_id,
            event_timestamp=began,
            originating_node_id=node,
            network_features=features,
            time_window={"window_start": began, "sequence_number": row},
            ml_analysis=_analysis(verdict),
            capturing_node={
                "node_id": node,
                "node_hostname": f"{node}.replay.invalid",
                "last_heartbeat": began,
                "agent_version": SENDER_VERSION,
            },
            overall_threat_score=verdict.overall,
            final_classification=verdict.classification,
            threat_category=verdict.category,
            correlation_id=event_id,
            schema_version=SCHEMA_VERSION,
            event_tags=TAGS,
            protobuf_version=SENDER_VERSION,
            fast_detector_score=verdict.fast,
            ml_detector_score=verdict.ml,
            authoritative_source=verdict.source,
            fast_detector_triggered=verdict.triggered,
            fast_detector_reason=verdict.reason,
            decision_metadata={
                "score_divergence": verdict.divergence,
                "requires_rag_analysis": verdict.explain,
                "confidence_level": verdict.confidence,
                "decision_timestamp": began,
            },
            provenance=_provenance(verdict, time_ns) if self._newer else None,
        )


def _analysis(verdict: Verdict) -> dict[str, Any]:
    analysis: dict[str, Any] = {
        "level1_general_detection": {
            "model_name": "level1_attack_detector",
            "model_version": "1.0.0",
            "prediction_class": "ATTACK" if verdict.attack else "BENIGN",
            "confidence_score": verdict.level1_confidence,
        },
        "attack_detected_level1": verdict.attack,
        "level1_confidence": verdict.level1_confidence,
        "ensemble_confidence": verdict.ensemble_confidence,
        "requires_human_review": verdict.review,
    }
    if verdict.category != "NORMAL":
        ddos = verdict.category == "DDOS"
        analysis["final_threat_classification"] = verdict.category
        analysis["level2_specialized_predictions"] = [
            {
                "model_name": "ddos_detector" if ddos else "ransomware_detector",
                "model_version": "1.0.0",
                "model_type": "RANDOM_FOREST_DDOS" if ddos else "RANDOM_FOREST_RANSOMWARE",
                "prediction_class": verdict.category,
                "confidence_score": verdict.ensemble_confidence,
            }
        ]
    return analysis


def _provenance(verdict: Verdict, time_ns: int) -> dict[str, Any]:
    return {
        "verdicts": [
            {
                "engine_name": "fast-path-sniffer",
                "classification": "Suspicious" if verdict.triggered else "Benign",
                "confidence": verdict.fast,
                "reason_code": "STAT_ANOMALY" if verdict.triggered else "UNKNOWN",
                "timestamp_ns": time_ns,
            },
            {
                "engine_name": "random-forest-level1",
                "classification": "Attack" if verdict.attack else "Benign",
                "confidence": verdict.level1_confidence,
                "reason_code": "STAT_ANOMALY" if verdict.attack else "UNKNOWN",
                "timestamp_ns": time_ns,
            },
        ],
        "global_timestamp_ns": time_ns,
        "final_decision": "DROP" if verdict.classification == "MALICIOUS" else "ALLOW",
        "discrepancy_score": verdict.divergence,
    }


def _traffic(batch: pa.RecordBatch) -> dict[str, Floats]:
    """The columns that the verdict rules read, as float64 with NaN where null."""
    names = [name for name in TRAFFIC_COLUMNS if name in batch.schema.names]
    return {
        name: batch.column(name).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        for name in names
    }
