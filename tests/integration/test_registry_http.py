"""Membership, keys and discovery on the older HTTP registry."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict

import pytest
from structlog.testing import capture_logs

from consumer.clock import SystemClock
from consumer.reception.detectors import Discovery, keys_from_registry
from consumer.reception.subscriber import Subscriber
from consumer.registry.choice import open_registry
from consumer.registry.http import HttpRegistry
from consumer.replay.seal import Sealer
from consumer.settings import Settings
from consumer.wire.envelope import Envelope
from consumer.wire.keys import KeyRing, key_from_hex
from tests.integration.http_registry_server import HttpRegistryServer
from tests.integration.registry_support import eventually, http_registry, key_ids

PAYLOAD = b"an event" * 20


@pytest.fixture
def server() -> Iterator[HttpRegistryServer]:
    with HttpRegistryServer() as started:
        yield started


@pytest.fixture
def subject(server: HttpRegistryServer) -> Iterator[HttpRegistry]:
    """A registry that is registered."""
    made = http_registry(
        server.url, capabilities={"indices": ["semantic"]}, settings={"day.timezone": "UTC"}
    )
    made.start()
    try:
        eventually(lambda: made.facts().connected)
        yield made
    finally:
        made.stop()


def materials(subject: HttpRegistry) -> list[str]:
    listed = subject.keys()
    return [key.material.upper() for key in listed]


def wait_for_two_more_faults(subject: HttpRegistry) -> None:
    before = subject.facts().malformed
    eventually(lambda: subject.facts().malformed >= before + 2)


def test_it_registers_with_name_time_and_capabilities(
    server: HttpRegistryServer, subject: HttpRegistry
) -> None:
    assert server.components() == ["dayfold"]
    assert server.capabilities("dayfold") == {"indices": ["semantic"]}
    sent = next(call.body for call in server.calls if call.path == "/register")
    assert abs(sent.pop("timestamp") / 1000 - time.time()) < 60
    assert sent.pop("capabilities")
    assert sent == {"component": "dayfold", "config_path": "dayfold.toml", "status": "active"}
    facts = subject.facts()
    assert (facts.kind, facts.endpoint, facts.last_error) == ("http", server.url, None)
    assert facts.registered_since_ns is not None


def test_heartbeats_keep_it_on_a_registry_that_drops_the_silent() -> None:
    with HttpRegistryServer(silence_s=1.0, sweep_s=0.05) as server:
        subject = http_registry(server.url)
        subject.start()
        try:
            eventually(lambda: subject.facts().renewals >= 25)
            assert server.components() == ["dayfold"]
            assert server.count("POST", "/register") == 1
            assert subject.facts().reregistrations == 0
        finally:
            subject.stop()


def test_a_silent_component_is_dropped_by_the_test_server() -> None:
    with HttpRegistryServer(silence_s=0.05, sweep_s=0.01) as server:
        server.put_config("ml-detector", {})
        eventually(lambda: server.components() == [])


def test_a_404_to_a_heartbeat_registers_again(
    server: HttpRegistryServer, subject: HttpRegistry
) -> None:
    server.forget()
    eventually(lambda: subject.facts().reregistrations == 1)
    eventually(lambda: subject.facts().connected)
    assert server.components() == ["dayfold"]


def test_status_and_settings_are_stored_with_the_heartbeat(
    server: HttpRegistryServer, subject: HttpRegistry
) -> None:
    subject.publish_status({"status": "running", "received": 12, "lag": float("nan")})
    eventually(lambda: (server.config("dayfold") or {}).get("received") == 12)
    stored = server.config("dayfold")
    assert stored["component"] == "dayfold"
    assert stored["instance"] == "one"
    assert (stored["status"], stored["lag"]) == ("running", None)
    assert stored["settings"] == {"day.timezone": "UTC"}


def test_an_urgent_status_does_not_wait_for_the_heartbeat(server: HttpRegistryServer) -> None:
    subject = http_registry(server.url, heartbeat_s=45.0)
    subject.start()
    try:
        eventually(lambda: subject.facts().connected)
        subject.publish_status({"status": "later"})
        subject.publish_status({"status": "now"}, urgent=True)
        eventually(lambda: server.config("dayfold")["status"] == "now")
        assert server.count("POST", "/v1/heartbeat/dayfold") == 0
    finally:
        subject.stop()


def test_one_key_given_at_both_places_is_one_candidate(
    server: HttpRegistryServer, subject: HttpRegistry
) -> None:
    eventually(lambda: server.count("GET", "/seed") >= 3)
    assert materials(subject) == [server.key]
    (key,) = subject.keys()
    assert (key.scheme, key.kind, key.component) == ("secretbox-v0", "key", "ml-detector")


def test_two_keys_at_both_places_are_two_candidates_and_stay_in_order(
    server: HttpRegistryServer,
) -> None:
    server.seed = "AB" * 32
    changes: list[list[str]] = []
    subject = http_registry(server.url)
    subject.subscribe(lambda: changes.append(key_ids(subject.keys())))
    subject.start()
    try:
        eventually(lambda: subject.facts().renewals >= 3)
        assert materials(subject) == [server.key, "AB" * 32]
        assert changes == [["encryption-key-1", "seed-2"]]
    finally:
        subject.stop()


def test_empty_keys_are_no_keys_and_no_fault() -> None:
    with HttpRegistryServer(keyless=True) as server:
        subject = http_registry(server.url)
        subject.start()
        try:
            eventually(lambda: subject.facts().renewals >= 2)
            assert subject.keys() == []
            assert subject.facts().malformed == 0
        finally:
            subject.stop()


def test_after_a_restart_messages_under_the_old_and_the_new_key_open(
    server: HttpRegistryServer, subject: HttpRegistry
) -> None:
    ring = KeyRing(SystemClock())
    subject.subscribe(lambda: ring.replace(keys_from_registry(subject.keys())))
    ring.replace(keys_from_registry(subject.keys()))
    old = server.key
    server.restart()
    eventually(lambda: len(ring.candidates()) == 2)
    assert server.key != old
    assert materials(subject) == [old, server.key]
    envelope = Envelope(ring)
    for digits in (old, server.key, old):
        message = Sealer(key_from_hex("detector", digits)).seal(PAYLOAD)
        assert envelope.open("ml-detector", message).payload == PAYLOAD


def test_a_key_that_comes_back_is_the_newest_again_and_not_twice(
    server: HttpRegistryServer, subject: HttpRegistry
) -> None:
    first, second = server.seed, "CD" * 32
    server.seed = second
    eventually(lambda: materials(subject) == [first, second])
    server.seed = first
    eventually(lambda: materials(subject) == [second, first])


def test_keys_do_not_reach_logs_facts_or_repr(server: HttpRegistryServer) -> None:
    keys = [server.key]
    with capture_logs() as logs:
        subject = http_registry(server.url)
        subject.start()
        try:
            eventually(lambda: len(subject.keys()) == 1)
            # Answers that hold a key and are no good in every way.
            for raw in (
                f"HTTP/1.1 200 OK\r\n\r\n{keys[0]}",
                f"HTTP/1.1 200 OK\r\n\r\n[{keys[0]!r}]",
                f"{keys[0]}\r\n\r\n",
                f"HTTP/1.1 {keys[0]} OK\r\n\r\n",
                f'HTTP/1.1 200 OK\r\n\r\n{{"seed": "{keys[0]}0"}}',
            ):
                server.raw["/seed"] = raw.encode()
                wait_for_two_more_faults(subject)
            server.raw["*"] = f"{keys[0]}\r\n\r\n".encode()
            eventually(lambda: not subject.facts().connected)
            server.raw.clear()
            server.restart()
            keys.append(server.key)
            eventually(lambda: len(subject.keys()) == 2)
        finally:
            subject.stop()
    shown = f"{logs} {asdict(subject.facts())} {subject.keys()!r} {subject!r}".upper()
    assert logs
    assert not [key for key in keys if key in shown]


def test_the_components_are_in_the_facts(server: HttpRegistryServer, subject: HttpRegistry) -> None:
    server.put_config("firewall-agent", {})
    server.put_config("rag", {})
    eventually(lambda: subject.facts().components == ("dayfold", "firewall-agent", "rag"))
    assert json.loads(json.dumps(asdict(subject.facts())))["components"][0] == "dayfold"


@pytest.mark.parametrize(
    ("config", "endpoints"),
    [
        ({"endpoint": "tcp://a:1"}, ("tcp://a:1",)),
        ({"endpoints": ["tcp://a:1", "tcp://b:2"]}, ("tcp://a:1", "tcp://b:2")),
    ],
)
def test_a_detectors_stored_endpoints_are_used(
    server: HttpRegistryServer,
    subject: HttpRegistry,
    config: dict[str, object],
    endpoints: tuple[str, ...],
) -> None:
    server.put_config("ml-detector", config)
    eventually(lambda: [e.endpoints for e in subject.detectors()] == [endpoints])


def test_a_configuration_without_endpoints_is_no_detector_and_no_fault(
    server: HttpRegistryServer, subject: HttpRegistry
) -> None:
    server.put_config("ml-detector", {"threshold": 0.7})
    eventually(lambda: server.count("GET", "/config/ml-detector") >= 3)
    assert subject.detectors() == []
    assert subject.facts().malformed == 0


def test_a_detector_that_a_restarted_registry_forgot_is_kept(
    server: HttpRegistryServer, subject: HttpRegistry
) -> None:
    server.put_config("ml-detector", {"endpoint": "tcp://a:1"})
    eventually(lambda: len(subject.detectors()) == 1)
    server.restart()
    eventually(lambda: subject.facts().reregistrations == 1)
    asked = server.count("GET", "/config/ml-detector")
    eventually(lambda: server.count("GET", "/config/ml-detector") >= asked + 4)
    assert [e.endpoints for e in subject.detectors()] == [("tcp://a:1",)]
    server.put_config("ml-detector", {"endpoint": "tcp://a:2"})
    eventually(lambda: [e.endpoints for e in subject.detectors()] == [("tcp://a:2",)])


def test_static_endpoints_are_listened_to_beside_those_of_the_registry(
    server: HttpRegistryServer,
) -> None:
    settings = Settings.model_validate(
        {
            "registry": {
                "kind": "http",
                "http": {"urls": [server.url], "heartbeat_s": 0.1, "timeout_s": 10},
            },
            "detector": {"endpoints": [{"name": "d1", "address": "tcp://127.0.0.1:9"}]},
        }
    )
    clock = SystemClock()
    subscriber = Subscriber(clock, grace_s=0.0)
    registry = open_registry(settings, "one", clock)
    ring = KeyRing(clock)
    discovery = Discovery(settings.detector, registry, subscriber, ring)
    registry.subscribe(discovery.refresh)
    subscriber.start()
    registry.start()
    try:
        discovery.refresh()
        eventually(lambda: len(ring.candidates()) == 1)
        server.put_config("ml-detector", {"endpoint": "tcp://127.0.0.1:11"})
        eventually(
            lambda: (
                {link.address for link in subscriber.facts()}
                == {"tcp://127.0.0.1:9", "tcp://127.0.0.1:11"}
            )
        )
        assert server.config("dayfold")["settings"]["day.timezone"] == "UTC"
    finally:
        registry.stop()
        subscriber.stop()


def test_two_consumers_of_one_name_share_one_place(
    server: HttpRegistryServer, subject: HttpRegistry
) -> None:
    twin = http_registry(server.url)
    twin.start()
    eventually(lambda: twin.facts().connected)
    assert server.components() == ["dayfold"]
    twin.stop()
    # The one that stays is taken off with the other, and notices by its next heartbeat.
    eventually(lambda: subject.facts().reregistrations == 1)
    assert server.components() == ["dayfold"]


def test_stop_takes_us_off_the_registry(server: HttpRegistryServer, subject: HttpRegistry) -> None:
    subject.stop()
    assert server.components() == []
    assert server.calls[-1].path == "/unregister"
    assert not subject.facts().connected
    assert subject.facts().registered_since_ns is None
