"""Recordings are read as they are, and what is wrong with one is said with its place."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from google.protobuf import json_format

from consumer.errors import UsageError
from consumer.replay.build_sample import SAMPLE
from consumer.replay.recordings import MAX_EVENT_BYTES, RecordedEvent, read_recording
from proto.network_security_pb2 import NetworkSecurityEvent

DAY_NS = 86_400 * 1_000_000_000
START_NS = 1_499_083_200 * 1_000_000_000  # 3 July 2017, 12:00 UTC


def _event(number: int) -> NetworkSecurityEvent:
    event = NetworkSecurityEvent(event_id=f"e-{number}", originating_node_id="north")
    event.event_timestamp.FromNanoseconds(START_NS + number * DAY_NS)
    event.network_features.source_ip = "192.0.2.1" * number
    return event


EVENTS = [_event(number) for number in range(20)]


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _delimited(payloads: list[bytes]) -> bytes:
    return b"".join(_varint(len(payload)) + payload for payload in payloads)


@pytest.fixture(params=[".pb", ".jsonl"])
def recording(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"events{request.param}"
    if path.suffix == ".pb":
        path.write_bytes(_delimited([event.SerializeToString() for event in EVENTS]))
    else:
        lines = [json_format.MessageToJson(event, indent=None) for event in EVENTS]
        path.write_text("\n".join(lines) + "\n\n")
    return path


def test_recorded_events_come_as_they_were(recording: Path) -> None:
    assert list(read_recording(recording)) == [
        RecordedEvent(event.event_timestamp.ToNanoseconds(), event.SerializeToString())
        for event in EVENTS
    ]


def test_days_and_limit_choose(recording: Path) -> None:
    days = frozenset({date(2017, 7, 4), date(2017, 7, 6), date(2017, 7, 8)})
    chosen = read_recording(recording, days=days, limit=2)
    assert [event.payload for event in chosen] == [
        EVENTS[1].SerializeToString(),
        EVENTS[3].SerializeToString(),
    ]


def test_another_node_can_be_given(recording: Path) -> None:
    first = next(read_recording(recording, node="south"))
    event = NetworkSecurityEvent.FromString(first.payload)
    assert (event.originating_node_id, event.event_id) == ("south", "e-0")


def test_fields_of_a_later_schema_survive_in_a_protobuf_recording(tmp_path: Path) -> None:
    payload = EVENTS[1].SerializeToString() + b"\xfa\x7f\x03new"
    path = tmp_path / "e.pb"
    path.write_bytes(_delimited([payload, payload]))
    assert [event.payload for event in read_recording(path)] == [payload, payload]


def test_a_single_event_is_a_recording_too(tmp_path: Path) -> None:
    path = tmp_path / "event_7.pb"
    for event in EVENTS:
        path.write_bytes(event.SerializeToString())
        assert [found.payload for found in read_recording(path)] == [event.SerializeToString()]


def test_an_event_without_a_time_is_left_out_only_when_days_are_chosen(tmp_path: Path) -> None:
    path = tmp_path / "e.pb"
    timeless = NetworkSecurityEvent(event_id="x").SerializeToString()
    path.write_bytes(_delimited([timeless, timeless]))
    assert [event.time_ns for event in read_recording(path)] == [None, None]
    assert list(read_recording(path, days=frozenset({date(2017, 7, 3)}))) == []


def test_an_empty_recording_has_no_events(tmp_path: Path) -> None:
    for name in ("e.pb", "e.jsonl"):
        (tmp_path / name).touch()
        assert list(read_recording(tmp_path / name)) == []


def test_flows_are_read_with_their_times() -> None:
    events = list(read_recording(SAMPLE, limit=5))
    parsed = [NetworkSecurityEvent.FromString(event.payload) for event in events]
    assert [event.time_ns for event in events] == [
        event.event_timestamp.ToNanoseconds() for event in parsed
    ]
    assert {event.originating_node_id for event in parsed} == {"replay"}


def test_a_cut_off_protobuf_recording_gives_what_is_whole_and_then_says_where(
    tmp_path: Path,
) -> None:
    path = tmp_path / "e.pb"
    whole = _delimited([event.SerializeToString() for event in EVENTS[:2]])
    path.write_bytes(whole + _delimited([EVENTS[2].SerializeToString()])[:-5])
    events = read_recording(path)
    assert len([next(events), next(events)]) == 2
    with pytest.raises(UsageError, match=rf"e\.pb: offset {len(whole) + 1}: cut off"):
        next(events)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (_varint(MAX_EVENT_BYTES + 1) + bytes(10), "the limit is"),
        (b"\xff" * 20, "no length of an event here"),
        (b"\xff", "no length of an event here"),
        (b"\x05\xff\xff\xff\xff\xff", "event 0: not a NetworkSecurityEvent"),
    ],
)
def test_a_protobuf_recording_with_nonsense_is_refused(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "e.pb"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=complaint):
        list(read_recording(path))


@pytest.mark.parametrize(
    "line", ["{", "17", '{"detection": {"scores": {}}}', '{"eventId": 5}'], ids=str
)
def test_a_line_that_is_no_event_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text('{"eventId": "a"}\n' + line + "\n")
    with pytest.raises(UsageError, match=r"e\.jsonl: line 2: not an event"):
        list(read_recording(path))


def test_an_unknown_format_or_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        next(read_recording(tmp_path / "absent.pb"))
    (tmp_path / "events.csv").touch()
    with pytest.raises(UsageError, match=r"\.csv: not a known recording"):
        next(read_recording(tmp_path / "events.csv"))
