"""Files as a detector keeps them, that imports are tested with."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

from proto.network_security_pb2 import NetworkSecurityEvent
from tests.detector_layout import SEED, DetectorLayout, Kind, line_of, record_of
from tests.embed_samples import sample

EVENTS = [event for _, event in sample()[::60]]
NOON = 1_499_169_600  # 2017-07-04 12:00 UTC


def layout(tmp_path: Path, *kinds: Kind, lines: bool = True, zone: str = "UTC") -> DetectorLayout:
    made = DetectorLayout(tmp_path / "detector", ZoneInfo(zone), kinds, lines)
    made.write(EVENTS)
    return made


def seed_file(tmp_path: Path) -> Path:
    path = tmp_path / "seed.bin"
    path.write_bytes(SEED)
    return path


def event(name: str, at_s: int = NOON, *, nanos: int = 0, port: int = 22) -> NetworkSecurityEvent:
    made = NetworkSecurityEvent(
        event_id=name, originating_node_id="sensor", final_classification="x"
    )
    made.event_timestamp.seconds, made.event_timestamp.nanos = at_s, nanos
    made.network_features.source_ip = "10.0.0.1"
    made.network_features.destination_port = port
    made.network_features.protocol_name = "TCP"
    return made


def write_lines(path: Path, *lines: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))
    return path


def line(made: NetworkSecurityEvent, number: int = 1) -> bytes:
    return line_of(record_of(made, number, logged_s=made.event_timestamp.seconds))


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])
