"""Fields of a newer detector: they survive the journal and can be seen before we know them."""

import json
import struct
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import lz4.block
import pytest
from google.protobuf.message import Message
from typer.testing import CliRunner

from consumer.clock import ManualClock
from consumer.commands.app import app
from consumer.journal import Journal, open_chunk
from consumer.questions.event_view import decode
from consumer.wire.admission import Admission
from consumer.wire.admitted import Admitted
from proto.network_security_pb2 import NetworkSecurityEvent

UTC = ZoneInfo("UTC")
DAY = date(2017, 7, 4)
NOON = 1_499_169_600_000_000_000


def field(number: int, wire_type: int, body: bytes) -> bytes:
    """A field as a sender that knows it writes it."""
    return varint(number << 3 | wire_type) + body


def varint(value: int) -> bytes:
    coded = bytearray()
    while value > 127:
        coded.append(value & 127 | 128)
        value >>= 7
    return bytes([*coded, value])


def text(value: bytes) -> bytes:
    return varint(len(value)) + value


GROUP = field(205, 3, field(1, 0, varint(5))) + field(205, 4, b"")
NEWER = (
    field(200, 0, varint(300))
    + field(201, 1, struct.pack("<d", 0.25))
    + field(202, 2, text("señal".encode()))
    + field(203, 5, struct.pack("<f", 1.5))
    + field(204, 2, text(b"\x00\xff"))
    + GROUP
)
SHOWN = [
    {"number": 200, "wire_type": "varint", "value": 300},
    {
        "number": 201,
        "wire_type": "64-bit",
        "value": struct.unpack("<Q", struct.pack("<d", 0.25))[0],
        "as_float": 0.25,
    },
    {"number": 202, "wire_type": "length-delimited", "value": "señal"},
    {
        "number": 203,
        "wire_type": "32-bit",
        "value": struct.unpack("<I", struct.pack("<f", 1.5))[0],
        "as_float": 1.5,
    },
    {"number": 204, "wire_type": "length-delimited", "value": "00ff"},
    {
        "number": 205,
        "wire_type": "group",
        "value": [{"number": 1, "wire_type": "varint", "value": 5}],
    },
]


def newer_event(event_id: str = "e-1", node: str = "n1") -> bytes:
    """What a newer detector sends: unknown fields in the event, a flow, and a model's answer."""
    known = NetworkSecurityEvent(event_id=event_id, originating_node_id=node)
    known.event_timestamp.FromNanoseconds(NOON)
    grown(known.network_features, source_ip="10.0.0.7")
    grown(known.ml_analysis.level3_specialized_predictions.add(), model_name="new")
    return known.SerializeToString() + NEWER


def grown(message: Message, **known: Any) -> None:
    for name, value in known.items():
        setattr(message, name, value)
    message.MergeFromString(NEWER)


def test_unknown_fields_are_listed_wherever_they_stand() -> None:
    known, unknown = decode(newer_event())
    assert known["network_features"]["source_ip"] == "10.0.0.7"
    by_path: dict[str, list[dict[str, Any]]] = {}
    for one in unknown:
        by_path.setdefault(one.pop("path"), []).append(one)
    assert by_path == {
        "": SHOWN,
        "network_features": SHOWN,
        "ml_analysis.level3_specialized_predictions[0]": SHOWN,
    }
    json.dumps(unknown, allow_nan=False)


def test_bytes_that_are_no_event_show_nothing() -> None:
    assert decode(b"\xff\xff") == ({}, [])


def journaled(folder: Path, *payloads: bytes, sealed: bool) -> None:
    journal = Journal(folder, zone=UTC, clock=ManualClock(NOON), on_fatal=lambda error: None)
    journal.start()
    admission = Admission(UTC)
    admitted = [
        admission.admit(payload, lz4.block.compress(payload, store_size=False), NOON)
        for payload in payloads
    ]
    journal.append([one for one in admitted if isinstance(one, Admitted)])
    journal.sync()
    if sealed:
        journal.seal(DAY)
    journal.stop()


def test_the_journal_gives_the_bytes_back_that_came(tmp_path: Path) -> None:
    payload = newer_event()
    journaled(tmp_path, payload, sealed=True)
    ((record,),) = open_chunk(tmp_path, DAY, zone=UTC).batches(10)
    assert record.payload == payload


@pytest.mark.parametrize("sealed", [False, True])
def test_show_event_tells_everything_of_an_event_of_an_open_or_closed_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: bool
) -> None:
    monkeypatch.setenv("DAYFOLD_DATA__DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    payloads = [newer_event(), newer_event(node="n2"), newer_event("e-2")]
    journaled(tmp_path / "journal", *payloads, sealed=sealed)
    done = CliRunner().invoke(app, ["show", str(DAY), "--event", "e-1", "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["day"] == str(DAY)
    assert [one["node"] for one in answer["events"]] == ["n1", "n2"]
    first = answer["events"][0]
    assert first["time"] == "2017-07-04T12:00:00Z"
    assert first["bytes"] == len(payloads[0])
    assert first["event"]["network_features"] == {"source_ip": "10.0.0.7"}
    assert len(first["unknown"]) == 3 * len(SHOWN)

    for_people = CliRunner().invoke(app, ["show", str(DAY), "--event", "e-2"])
    assert "network_features.source_ip  10.0.0.7" in for_people.stdout
    assert "network_features.200 (varint, unknown)  300" in for_people.stdout


def test_show_names_an_event_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAYFOLD_DATA__DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    journaled(tmp_path / "journal", newer_event(), sealed=False)
    done = CliRunner().invoke(app, ["show", str(DAY), "--event", "nobody"])
    assert done.exit_code != 0
    assert "nobody" in str(done.exception)
