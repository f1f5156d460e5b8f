"""One event out of the journal, decoded, with every field that this release does not know.

A newer detector may send fields that are not in our schema. The journal keeps them, because it
keeps the bytes; here they are listed by number, wire type and value, so that they can be seen
before a release knows their names.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from consumer.backfill.known import read_day
from consumer.journal import Record
from index.chunks import rfc3339
from proto.network_security_pb2 import NetworkSecurityEvent

# https://protobuf.dev/programming-guides/encoding/#structure
WIRE_TYPES = {0: "varint", 1: "64-bit", 2: "length-delimited", 3: "group", 5: "32-bit"}


def find_events(journal: Path, day: date, event_id: str) -> list[dict[str, Any]]:
    """Every event of a day with this id, as JSON; ids of different nodes may be equal.

    Reads the day as it lies on the disk, closed or open, without a lock. Raises OSError for a
    segment that cannot be read.
    """
    wanted = event_id.encode()
    # A payload that does not hold the id's bytes need not be parsed.
    likely = (record for record in read_day(journal, day) if wanted in record.payload)
    return [view for record in likely if (view := _view(record))["event_id"] == event_id]


def _view(record: Record) -> dict[str, Any]:
    decoded, unknown = decode(record.payload)
    return {
        "event_id": decoded.get("event_id", ""),
        "node": decoded.get("originating_node_id", ""),
        "time": rfc3339(record.time_ns),
        "time_is_its_own": record.own_time,
        "arrived": rfc3339(record.arrival_ns),
        "bytes": len(record.payload),
        "event": decoded,
        "unknown": unknown,
    }


def decode(payload: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The known fields of an event by name, and the unknown ones in the order of the wire.

    An unknown field has `path` (the message it stands in, empty for the event itself), `number`,
    `wire_type` and `value`: a number, text, hexadecimal digits for other bytes, or the fields of a
    group. Numbers of fixed width also come `as_float`. Both are empty for bytes that are no event.
    """
    try:
        event = NetworkSecurityEvent.FromString(payload)
    except DecodeError:
        return {}, []
    known = MessageToDict(event, preserving_proto_field_name=True)
    return known, list(_unknown(event, ""))


def _unknown(message: Message, path: str) -> Iterator[dict[str, Any]]:
    for field in _fields(UnknownFieldSet(message)):
        yield {"path": path, **field}
    for descriptor, value in message.ListFields():
        if descriptor.type != FieldDescriptor.TYPE_MESSAGE:
            continue
        here = f"{path}.{descriptor.name}" if path else descriptor.name
        if isinstance(value, Message):
            yield from _unknown(value, here)
        elif isinstance(value, Sequence):
            for place, part in enumerate(value):
                yield from _unknown(part, f"{here}[{place}]")


def _fields(fields: UnknownFieldSet) -> list[dict[str, Any]]:
    every = (fields[place] for place in range(len(fields)))
    return [_field(one.field_number, one.wire_type, one.data) for one in every]


def _field(number: int, wire_type: int, data: Any) -> dict[str, Any]:
    field: dict[str, Any] = {"number": number, "wire_type": WIRE_TYPES[wire_type], "value": data}
    if wire_type == 1:
        field["as_float"] = _finite(struct.unpack("<d", struct.pack("<Q", data))[0])
    elif wire_type == 5:
        field["as_float"] = _finite(struct.unpack("<f", struct.pack("<I", data))[0])
    elif wire_type == 2:
        field["value"] = _text(data)
    elif wire_type == 3:
        field["value"] = _fields(data)
    return field


def _text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data.hex()
    return text if text.isprintable() else data.hex()


def _finite(number: float) -> float | str:
    # NaN and infinity are no JSON; MessageToDict writes them as words too.
    return number if abs(number) < float("inf") else str(number)
