"""The registry on a real etcd that is well."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from consumer.errors import ConfigurationError, RegistryError
from consumer.registry.base import KeyEntry
from consumer.registry.client import LeaseLostError, call_any
from consumer.registry.directory import Change
from consumer.registry.etcd import EtcdRegistry
from consumer.registry.local_etcd import LocalEtcd
from consumer.registry.options import EtcdOptions
from consumer.registry.watch import WatchReport
from tests.integration.registry_support import (
    HEX,
    LAYOUT,
    Operator,
    at,
    detector,
    eventually,
    instances,
    options,
    registry,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEtcd]:
    with LocalEtcd(tmp_path_factory.mktemp("etcd")) as started:
        yield started


@pytest.fixture
def reach(server: LocalEtcd) -> EtcdOptions:
    return options(server)


@pytest.fixture
def operator(reach: EtcdOptions) -> Iterator[Operator]:
    with Operator(reach) as made:
        made.connection._client.delete_prefix("/ml-defender/")
        yield made


@pytest.fixture
def subject(reach: EtcdOptions, operator: Operator) -> Iterator[EtcdRegistry]:
    made = registry(reach)
    with contextlib.ExitStack() as stack:
        stack.callback(made.stop)
        yield made


def test_it_registers_itself_under_a_lease(subject: EtcdRegistry, operator: Operator) -> None:
    subject.publish_status({"status": "running", "lost": 3})
    subject.start()
    eventually(lambda: subject.facts().connected)
    said = operator.value()
    assert said is not None
    assert (said["instance"], said["status"], said["lost"]) == ("one", "running", 3)
    lease_id = subject.facts().lease_id
    assert lease_id is not None
    assert operator.keys_of_lease(lease_id) == [LAYOUT.service("dayfold", "one")]


def test_a_heartbeat_carries_the_latest_status(subject: EtcdRegistry, operator: Operator) -> None:
    subject.start()
    eventually(lambda: operator.value() is not None)
    subject.publish_status({"status": "busy"})
    subject.publish_status({"status": "calm"})
    eventually(lambda: (operator.value() or {})["status"] == "calm")
    eventually(lambda: subject.facts().renewals >= 2)
    assert subject.facts().reregistrations == 0


def test_an_urgent_status_does_not_wait_for_the_heartbeat(
    reach: EtcdOptions, operator: Operator
) -> None:
    slow = EtcdRegistry(reach, registry(reach)._entry, lease_ttl_s=3600, heartbeat_s=1800)
    slow.start()
    try:
        eventually(lambda: slow.facts().connected)
        slow.publish_status({"status": "disk full"}, urgent=True)
        eventually(lambda: (operator.value() or {})["status"] == "disk full")
        slow.publish_status({"status": "fine"}, urgent=True)
        eventually(lambda: (operator.value() or {})["status"] == "fine")
        assert slow.facts().renewals <= 2
    finally:
        slow.stop()


def test_stop_takes_us_off_the_registry(subject: EtcdRegistry, operator: Operator) -> None:
    subject.start()
    eventually(lambda: operator.value() is not None)
    subject.stop()
    assert operator.value() is None
    facts = subject.facts()
    assert (facts.connected, facts.lease_id) == (False, None)


def test_a_detector_stand_in_is_discovered_until_it_stops(
    subject: EtcdRegistry, reach: EtcdOptions
) -> None:
    subject.start()
    stand_in = detector(reach, "d1", "tcp://127.0.0.1:5572")
    stand_in.start()
    eventually(lambda: instances(subject) == ["d1"])
    assert subject.detectors()[0].endpoints == ("tcp://127.0.0.1:5572",)
    stand_in.stop()
    eventually(lambda: instances(subject) == [])
    assert (stand_in.detectors(), stand_in.keys()) == ([], [])


def test_a_detector_that_dies_goes_with_its_lease(
    subject: EtcdRegistry, operator: Operator
) -> None:
    subject.start()
    operator.connection.grant(77, 1)
    operator.connection.put(LAYOUT.service("ml-detector", "d1"), at("tcp://a:1"), 77)
    eventually(lambda: instances(subject) == ["d1"])
    eventually(lambda: instances(subject) == [], "for the lease to run out")


def test_other_components_are_no_detectors(subject: EtcdRegistry, operator: Operator) -> None:
    operator.connection.put(LAYOUT.service("ml-detector-2", "x"), at("tcp://a:1"))
    operator.connection.put(LAYOUT.service("sniffer", "x"), at("tcp://a:1"))
    subject.start()
    operator.announce("d1", at("tcp://a:1"))
    eventually(lambda: instances(subject) == ["d1"])


def test_keys_are_followed_as_they_come_change_and_go(
    subject: EtcdRegistry, reach: EtcdOptions
) -> None:
    seed = KeyEntry(
        "k1", "ml-detector", "chacha20poly1305-v1", HEX, "seed", "ctx", 10**18, 2 * 10**18
    )
    later = KeyEntry("k1", "ml-detector", "chacha20poly1305-v1", HEX[::-1], "seed", "ctx")
    writer = detector(reach, "d1")
    subject.start()
    writer.put_key(seed)
    eventually(lambda: subject.keys() == [seed])
    writer.put_key(later)
    eventually(lambda: subject.keys() == [later])
    assert writer.delete_key("k1")
    eventually(lambda: subject.keys() == [])
    assert not writer.delete_key("k1")


def test_a_key_id_that_would_change_the_path_is_refused(reach: EtcdOptions) -> None:
    writer = registry(reach)
    with pytest.raises(ConfigurationError, match="key_id"):
        writer.delete_key("../services")
    with pytest.raises(ConfigurationError, match="component"):
        writer.put_key(KeyEntry("k", "a/b", "secretbox-v0", HEX, "key", ""))


def test_a_malformed_value_is_counted_and_named_and_harms_nobody(
    subject: EtcdRegistry, operator: Operator
) -> None:
    operator.announce("d1", b"\xff{")
    subject.start()
    operator.announce("d2", at("tcp://a:1"))
    eventually(lambda: instances(subject) == ["d2"])
    facts = subject.facts()
    assert facts.malformed == 1
    assert facts.malformed_keys == {LAYOUT.service("ml-detector", "d1"): "it is not JSON"}
    operator.announce("d1", at("tcp://b:1"))
    eventually(lambda: instances(subject) == ["d1", "d2"])
    assert subject.facts().malformed_keys == {}


def test_two_deployments_on_one_etcd_do_not_see_each_other(
    subject: EtcdRegistry, reach: EtcdOptions, operator: Operator
) -> None:
    other = registry(reach, prefix="/other")
    subject.start()
    other.start()
    try:
        operator.connection.put("/other/services/ml-detector/d9", at("tcp://a:1"))
        operator.announce("d1", at("tcp://a:1"))
        eventually(lambda: instances(subject) == ["d1"] and instances(other) == ["d9"])
    finally:
        other.stop()


def test_hundreds_of_detectors_are_followed(subject: EtcdRegistry, operator: Operator) -> None:
    for number in range(150):
        operator.announce(f"d{number:03}", at("tcp://a:1"))
    subject.start()
    for number in range(150, 300):
        operator.announce(f"d{number:03}", at("tcp://a:1"))
    eventually(lambda: len(subject.detectors()) == 300)
    assert subject.facts().connected


def test_a_watch_knows_where_to_resume(operator: Operator) -> None:
    services, crypto = LAYOUT.services("ml-detector"), LAYOUT.crypto()
    start = operator.connection.read(services).revision + 1
    reports: SimpleQueue[WatchReport] = SimpleQueue()
    watch = operator.connection.watch({services: start, crypto: start}, reports.put)
    operator.announce("d1", at("tcp://a:1"))
    operator.withdraw("d1")
    seen: list[Change] = []
    while len(seen) < 2:
        seen += reports.get(timeout=10).changes
    watch.close()
    end = reports.get(timeout=10)
    assert [(change.revision, change.value is None) for change in seen] == [
        (start, False),
        (start + 1, True),
    ]
    assert watch.progress() == {services: start + 2, crypto: start}
    assert end.ended is not None
    assert (end.established, end.compacted) == (True, False)


def test_refreshing_a_lease_that_is_gone_says_so_by_its_time_to_live(operator: Operator) -> None:
    assert operator.connection.refresh(123456) == 0


def test_writing_under_a_lease_that_is_gone_is_told_apart(operator: Operator) -> None:
    with pytest.raises(LeaseLostError, match="lease not found"):
        operator.connection.put("/x", b"x", 123456)


def test_an_error_names_the_member_the_action_and_the_reason() -> None:
    nowhere = EtcdOptions(("127.0.0.1:1",), timeout_s=1)
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:1: list /x: unavailable"):
        call_any(nowhere, lambda connection: connection.read("/x"))


def test_a_call_on_a_closed_connection_is_a_registry_error(operator: Operator) -> None:
    operator.connection.close()
    with pytest.raises(RegistryError, match="closed channel"):
        operator.connection.read("/x")
