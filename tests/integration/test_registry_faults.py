"""The registry while etcd dies, freezes, forgets, or was never there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from consumer.errors import RegistryError
from consumer.registry.base import KeyEntry
from consumer.registry.etcd import EtcdRegistry
from consumer.registry.local_etcd import LocalEtcd
from tests.integration.registry_support import (
    HEX,
    Operator,
    at,
    detector,
    eventually,
    instances,
    options,
    registry,
)

KEY = KeyEntry("k1", "ml-detector", "secretbox-v0", HEX, "key", "")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalEtcd]:
    with LocalEtcd(tmp_path / "etcd") as started:
        yield started


@pytest.fixture
def subject(server: LocalEtcd) -> Iterator[EtcdRegistry]:
    """A registry that is registered and knows one detector and one key."""
    made = registry(options(server))
    made.put_key(KEY)
    with Operator(options(server)) as operator:
        operator.announce("d1", at("tcp://a:1"))
    made.start()
    try:
        eventually(lambda: made.facts().connected and instances(made) == ["d1"])
        yield made
    finally:
        made.stop()


def registered(server: LocalEtcd) -> bool:
    with Operator(options(server)) as operator:
        return operator.value() is not None


def test_what_was_known_stays_known_while_etcd_is_down(
    server: LocalEtcd, subject: EtcdRegistry
) -> None:
    server.kill()
    eventually(lambda: not subject.facts().connected)
    assert instances(subject) == ["d1"]
    assert subject.keys() == [KEY]
    error = subject.facts().last_error
    assert error is not None
    assert server.endpoint in error


def test_an_etcd_killed_and_started_again_has_us_back(
    server: LocalEtcd, subject: EtcdRegistry
) -> None:
    server.kill()
    eventually(lambda: not subject.facts().connected)
    server.start()
    eventually(lambda: subject.facts().connected)
    assert registered(server)
    assert subject.facts().last_error is None
    with Operator(options(server)) as operator:
        operator.announce("d2", at("tcp://a:1"))
    eventually(lambda: instances(subject) == ["d1", "d2"])


def test_an_etcd_that_lost_its_data_has_us_back_under_a_new_lease(
    server: LocalEtcd, subject: EtcdRegistry
) -> None:
    before = subject.facts().lease_id
    server.kill()
    server.wipe()
    server.start()
    eventually(lambda: subject.facts().reregistrations == 1)
    eventually(lambda: subject.facts().connected)
    assert registered(server)
    assert subject.facts().lease_id != before
    assert (instances(subject), subject.keys()) == ([], [])
    with Operator(options(server)) as operator:
        operator.announce("d2", at("tcp://a:1"))
    eventually(lambda: instances(subject) == ["d2"])


def test_an_etcd_frozen_past_our_lease_has_us_back_under_a_new_one(
    server: LocalEtcd, subject: EtcdRegistry, tmp_path: Path
) -> None:
    before = subject.facts().lease_id
    assert before is not None
    server.pause()
    eventually(lambda: not subject.facts().connected)
    still = threading.Event()
    still.wait(2.5)  # longer than the lease lives
    server.resume()
    eventually(lambda: subject.facts().reregistrations == 1)
    eventually(lambda: subject.facts().connected)
    assert subject.facts().lease_id != before
    assert registered(server)
    # The earlier watch hangs on a server that was frozen: only a new one sees this.
    with Operator(options(server)) as operator:
        operator.announce("d2", at("tcp://a:1"))
    eventually(lambda: instances(subject) == ["d1", "d2"])


def test_a_lease_revoked_behind_our_back_is_replaced(
    server: LocalEtcd, subject: EtcdRegistry
) -> None:
    before = subject.facts()
    assert before.lease_id is not None
    with Operator(options(server)) as operator:
        operator.connection.revoke(int(before.lease_id, 16))
    eventually(lambda: subject.facts().reregistrations == 1)
    assert subject.facts().lease_id != before.lease_id
    assert registered(server)
    # Who lost its lease may have missed more: everything is read again.
    eventually(lambda: subject.facts().rereads > before.rereads)


def test_our_key_deleted_behind_our_back_is_written_again(
    server: LocalEtcd, subject: EtcdRegistry
) -> None:
    with Operator(options(server)) as operator:
        assert operator.connection.delete("/ml-defender/services/dayfold/one")
        eventually(lambda: operator.value() is not None)
    assert subject.facts().reregistrations == 0


def break_stream(subject: EtcdRegistry) -> None:
    """Break a watch that the server has accepted: one that it has not is a contact that failed."""
    session = subject._session
    assert session is not None
    watch = session._watch
    assert watch is not None
    eventually(lambda: watch._pending == 0)
    watch._call.cancel()


def test_a_broken_watch_resumes_where_it_was(server: LocalEtcd, subject: EtcdRegistry) -> None:
    rereads = subject.facts().rereads
    break_stream(subject)
    with Operator(options(server)) as operator:
        operator.announce("d2", at("tcp://a:1"))
        operator.withdraw("d1")
    eventually(lambda: instances(subject) == ["d2"])
    assert subject.facts().rereads == rereads


def test_a_watch_that_fell_behind_a_compaction_reads_all_anew(
    server: LocalEtcd, subject: EtcdRegistry
) -> None:
    rereads = subject.facts().rereads
    with Operator(options(server)) as operator, capture_logs() as logs:
        operator.compact()
        break_stream(subject)
        eventually(lambda: subject.facts().rereads > rereads)
        operator.announce("d2", at("tcp://a:1"))
        operator.withdraw("d1")
        eventually(lambda: instances(subject) == ["d2"])
    assert "registry lost; retrying" not in [entry["event"] for entry in logs]


def test_a_start_without_etcd_waits_for_it_to_appear(server: LocalEtcd) -> None:
    server.kill()
    subject = registry(options(server))
    subject.start()
    try:
        eventually(lambda: subject.facts().last_error is not None)
        assert (subject.detectors(), subject.keys()) == ([], [])
        server.start()
        eventually(lambda: subject.facts().connected)
        assert registered(server)
        assert subject.facts().reregistrations == 0
    finally:
        subject.stop()


@pytest.mark.parametrize("state", ["frozen", "dead"])
def test_stop_ends_although_etcd_does_not_answer(
    server: LocalEtcd, subject: EtcdRegistry, state: str
) -> None:
    server.pause() if state == "frozen" else server.kill()
    stopping = threading.Thread(target=subject.stop)
    stopping.start()
    stopping.join(10)
    assert not stopping.is_alive()
    assert not subject._thread.is_alive()


def test_stop_in_the_middle_of_a_hanging_call_ends_too(
    server: LocalEtcd, subject: EtcdRegistry
) -> None:
    server.pause()
    # By now it waits for the answer to a heartbeat, with a limit far away.
    patient = EtcdRegistry(replace(options(server), timeout_s=60), subject._entry)
    patient.start()
    eventually(lambda: patient._session is not None)
    patient.stop()
    assert not patient._thread.is_alive()


def test_the_first_endpoint_dead_is_passed_over(server: LocalEtcd, tmp_path: Path) -> None:
    with LocalEtcd(tmp_path / "other") as other:
        reach = options(other, server)
        other.kill()
        subject = registry(reach)
        subject.start()
        try:
            eventually(lambda: subject.facts().connected)
            assert subject.facts().endpoint == server.endpoint
            subject.put_key(KEY)
            eventually(lambda: subject.keys() == [KEY])
        finally:
            subject.stop()
        assert not registered(server)


def test_the_endpoint_in_use_dying_moves_us_to_the_next(
    server: LocalEtcd, subject: EtcdRegistry, tmp_path: Path
) -> None:
    with LocalEtcd(tmp_path / "other") as other:
        moving = registry(options(other, server), registry(options(server))._entry)
        moving.start()
        try:
            eventually(lambda: moving.facts().endpoint == other.endpoint)
            other.kill()
            eventually(lambda: moving.facts().endpoint == server.endpoint)
            eventually(lambda: instances(moving) == ["d1"])
        finally:
            moving.stop()


def test_no_endpoint_left_is_an_error_for_who_writes_a_key(server: LocalEtcd) -> None:
    writer = registry(options(server))
    server.kill()
    with pytest.raises(RegistryError, match="unavailable") as caught:
        writer.put_key(KEY)
    assert HEX not in str(caught.value)


def test_a_frozen_etcd_keeps_a_writer_no_longer_than_its_limit(server: LocalEtcd) -> None:
    server.pause()
    with pytest.raises(RegistryError, match="deadline exceeded"):
        registry(options(server)).put_key(KEY)


def test_a_detector_stand_in_comes_back_after_a_wipe(
    server: LocalEtcd, subject: EtcdRegistry
) -> None:
    stand_in = detector(options(server), "d7", "tcp://a:1")
    stand_in.start()
    try:
        eventually(lambda: instances(subject) == ["d1", "d7"])
        server.kill()
        server.wipe()
        server.start()
        eventually(lambda: instances(subject) == ["d7"])
    finally:
        stand_in.stop()
