"""Recognising the event behind a record that does not carry its identity.

A record in the detector's log has no event id. What it shares with its event is compared instead:

- **ends and verdict**: the five-tuple, the whole second of the event's own time, and the three
  scores to four decimals;
- **amounts**, where the record tells them: packets and bytes of both directions and the duration.

Two events that agree in all of this cannot be told apart by their records. They are counted: so
many of them as are known take the place of so many records, and no more.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final, NamedTuple

from proto.network_security_pb2 import NetworkSecurityEvent

_NAMES: Final = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPV6"}
_HEAD: Final = struct.Struct("<qII")
_AMOUNTS: Final = struct.Struct("<5Q")


class Fingerprints(NamedTuple):
    """What an event can be recognised by. `full` has the amounts in it, `core` has not."""

    full: bytes
    core: bytes


def fingerprints(event: NetworkSecurityEvent, second: int) -> Fingerprints:
    """The fingerprints of an event, 12 bytes each.

    `second` is its own time in whole seconds, as it was sent.
    """
    flow = event.network_features
    protocol = flow.protocol_name.upper() or _NAMES.get(
        flow.protocol_number, f"IP-{flow.protocol_number}"
    )
    text = (
        f"{flow.source_ip}\0{flow.destination_ip}\0{protocol}\0{event.overall_threat_score:.4f}\0"
        f"{event.fast_detector_score:.4f}\0{event.ml_detector_score:.4f}"
    )
    core = _HEAD.pack(second, flow.source_port, flow.destination_port) + text.encode()
    amounts = _AMOUNTS.pack(
        flow.total_forward_packets,
        flow.total_backward_packets,
        flow.total_forward_bytes,
        flow.total_backward_bytes,
        flow.flow_duration_microseconds,
    )
    return Fingerprints(_digest(amounts + core), _digest(core))


def named(event_id: str, second: int) -> bytes:
    """The key of an event whose id is known from a file name, and the second of its own time."""
    return _digest(struct.pack("<q", second) + b"\1" + event_id.encode())


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=12).digest()
