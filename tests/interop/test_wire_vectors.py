"""Messages that the detector's own crypto library made are opened to the exact bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from consumer.clock import ManualClock
from consumer.errors import UnknownKeyError
from consumer.replay.seal import Sealer
from consumer.wire.envelope import Envelope, Key, KeyRing, key_from_hex, key_from_seed
from proto.network_security_pb2 import NetworkSecurityEvent

VECTORS: list[dict[str, Any]] = [
    json.loads(line) for line in Path(__file__).with_name("vectors.jsonl").read_text().splitlines()
]


def _name(vector: dict[str, Any]) -> str:
    return f"{vector['scheme']}-{vector['name']}"


def _key(vector: dict[str, Any]) -> Key:
    if vector["scheme"] == "secretbox-v0":
        return key_from_hex("vector", vector["key_hex"])
    return key_from_seed("vector", bytes.fromhex(vector["seed_hex"]), vector["context"])


def test_both_schemes_have_vectors() -> None:
    schemes = [vector["scheme"] for vector in VECTORS]
    assert schemes.count("secretbox-v0") == 5
    assert schemes.count("chacha20poly1305-v1") == 5


@pytest.mark.parametrize("vector", VECTORS, ids=_name)
def test_a_message_of_the_detector_opens_to_its_exact_bytes(vector: dict[str, Any]) -> None:
    envelope = Envelope(KeyRing(ManualClock(), [_key(vector)]))

    opened = envelope.open("detector", bytes.fromhex(vector["wire_hex"]))

    assert opened.payload == bytes.fromhex(vector["plaintext_protobuf_hex"])
    assert opened.scheme == vector["scheme"]
    assert opened.counter == vector.get("nonce_counter")


@pytest.mark.parametrize("vector", VECTORS, ids=_name)
def test_the_right_key_is_found_among_all_others(vector: dict[str, Any]) -> None:
    envelope = Envelope(KeyRing(ManualClock(), [_key(other) for other in VECTORS]))

    opened = envelope.open("detector", bytes.fromhex(vector["wire_hex"]))

    assert opened.payload == bytes.fromhex(vector["plaintext_protobuf_hex"])


@pytest.mark.parametrize("vector", VECTORS, ids=_name)
def test_no_other_key_opens_it(vector: dict[str, Any]) -> None:
    others = [_key(other) for other in VECTORS if _key(other).secret != _key(vector).secret]
    envelope = Envelope(KeyRing(ManualClock(), others))

    with pytest.raises(UnknownKeyError):
        envelope.open("detector", bytes.fromhex(vector["wire_hex"]))


@pytest.mark.parametrize("vector", VECTORS, ids=_name)
def test_every_field_of_the_detectors_event_is_known_to_the_schema(
    vector: dict[str, Any],
) -> None:
    payload = bytes.fromhex(vector["plaintext_protobuf_hex"])
    event = NetworkSecurityEvent.FromString(payload)
    known = NetworkSecurityEvent.FromString(payload)
    known.DiscardUnknownFields()

    assert event.event_id
    assert known.SerializeToString(deterministic=True) == event.SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if vector["name"] == "tiny_id_only"], ids=_name
)
def test_our_sealer_writes_what_the_detector_writes(vector: dict[str, Any]) -> None:
    # Larger events differ in how LZ4 chose its matches, never in what they decompress to.
    wire = bytes.fromhex(vector["wire_hex"])
    sealer = Sealer(
        _key(vector),
        counter=vector.get("nonce_counter", 0),
        random_bytes=lambda length: wire[:length],
    )

    assert sealer.seal(bytes.fromhex(vector["plaintext_protobuf_hex"])) == wire
