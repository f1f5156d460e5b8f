"""Recordings of events: what a replay can publish. Read as a stream, never whole.

========  =====================================================================================
suffix    content
========  =====================================================================================
.parquet  flows, one per row; they become events with simulated verdicts (`consumer.replay.flows`)
.jsonl    one event per line, in protobuf's own JSON form
.pb       events one after the other, each behind its length as a varint; or one event alone,
          as the detector keeps its artifacts
========  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple
from zoneinfo import ZoneInfo

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from consumer.days import NS_PER_SECOND, day_bounds_ns
from consumer.errors import UsageError
from consumer.replay.flows import FlowRecording
from proto.admission_pb2 import AdmissionEvent
from proto.network_security_pb2 import NetworkSecurityEvent

DEFAULT_NODE: Final = "replay"
MAX_EVENT_BYTES: Final = 16 * 1024 * 1024


class RecordedEvent(NamedTuple):
    """One event of a recording. A tuple, because one is made for every event.

    Attributes:
        time_ns: the event's own time, UTC ns; None if it has none.
        payload: the protobuf bytes.
    """

    time_ns: int | None
    payload: bytes


def read_recording(
    path: Path,
    *,
    node: str | None = None,
    days: frozenset[date] | None = None,
    limit: int | None = None,
    seed: int = 0,
    newer: bool = True,
) -> Iterator[RecordedEvent]:
    """The events of a recording, in its order.

    Args:
        path: a `.parquet`, `.jsonl` or `.pb` file.
        node: sensor that the events are to come from; None leaves recorded events as they are and
            gives flows the name "replay".
        days: only events of these UTC days; None for all, also those without a time.
        limit: at most so many of them.
        seed: of the simulated verdicts of flows.
        newer: whether flows fill the fields that only newer detectors have.

    Raises:
        UsageError: no such file, a format that is not known, or content that is not of it; names
            the place. Raised when the first event is asked for, or the one that is wrong.
    """
    events: Iterator[RecordedEvent]
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    if path.suffix == ".parquet":
        flows = FlowRecording(path, node=node or DEFAULT_NODE, seed=seed, days=days, newer=newer)
        events = (RecordedEvent(ns, event.SerializeToString()) for ns, event in flows)
    elif path.suffix in {".jsonl", ".pb"}:
        payloads = _json_lines(path) if path.suffix == ".jsonl" else _protobufs(path)
        events = _recorded(payloads, path, node=node, days=days)
    else:
        raise UsageError(
            f"{path}: {path.suffix or 'no suffix'}: not a known recording; "
            "give a .parquet, .jsonl or .pb file"
        )
    yield from islice(events, limit)


def _recorded(
    payloads: Iterator[bytes], path: Path, *, node: str | None, days: frozenset[date] | None
) -> Iterator[RecordedEvent]:
    bounds = None if days is None else [day_bounds_ns(day, ZoneInfo("UTC")) for day in days]
    for index, payload in enumerate(payloads):
        try:
            event = AdmissionEvent.FromString(payload)
            renamed = payload if node is None else _renamed(payload, node)
        except DecodeError as error:
            raise UsageError(f"{path}: event {index}: not a NetworkSecurityEvent") from error
        time_ns = None
        if event.HasField("event_timestamp"):
            stamp = event.event_timestamp
            time_ns = stamp.seconds * NS_PER_SECOND + stamp.nanos
        if bounds is not None and not any(
            time_ns is not None and start <= time_ns < end for start, end in bounds
        ):
            continue
        yield RecordedEvent(time_ns, renamed)


def _renamed(payload: bytes, node: str) -> bytes:
    event = NetworkSecurityEvent.FromString(payload)
    event.originating_node_id = node
    return event.SerializeToString()


def _json_lines(path: Path) -> Iterator[bytes]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                event = json_format.Parse(line, NetworkSecurityEvent())
            except (json_format.ParseError, UnicodeDecodeError) as error:
                raise UsageError(
                    f"{path}: line {number}: not an event in protobuf's JSON form: {error}; "
                    "a detector's own log is read by `dayfold import`"
                ) from error
            yield event.SerializeToString()


def _protobufs(path: Path) -> Iterator[bytes]:
    if (alone := _single_event(path)) is not None:
        yield alone
        return
    with path.open("rb") as file:
        while (length := _read_length(file, path)) is not None:
            at = file.tell()
            if length > MAX_EVENT_BYTES:
                raise UsageError(
                    f"{path}: offset {at}: an event of {length} bytes; the limit is "
                    f"{MAX_EVENT_BYTES}. Is this a length-delimited recording?"
                )
            payload = file.read(length)
            if len(payload) < length:
                raise UsageError(
                    f"{path}: offset {at}: cut off: {len(payload)} of {length} bytes are there"
                )
            yield payload


def _single_event(path: Path) -> bytes | None:
    """The whole file, if it is one event. A length in front of an event does not parse as one."""
    if path.stat().st_size > MAX_EVENT_BYTES:
        return None
    payload = path.read_bytes()
    try:
        event = AdmissionEvent.FromString(payload)
    except DecodeError:
        return None
    return payload if event.event_id or event.HasField("event_timestamp") else None


def _read_length(file: BinaryIO, path: Path) -> int | None:
    """The next varint, of at most ten bytes; None at the end of the file."""
    length = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            if shift == 0:
                return None
            break
        length |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return length
    raise UsageError(f"{path}: offset {file.tell()}: no length of an event here")
