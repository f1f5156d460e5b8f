"""What every registry does, whatever stands behind it."""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, replace

import pytest

from consumer.registry.base import DetectorEntry, KeyEntry, Registry
from consumer.registry.local_etcd import LocalEtcd
from consumer.registry.static import StaticRegistry
from tests.integration.http_registry_server import HttpRegistryServer
from tests.integration.registry_support import (
    HEX,
    Operator,
    at,
    eventually,
    http_registry,
    options,
    registry,
)

KEY = KeyEntry("k1", "ml-detector", "secretbox-v0", HEX, "key", "")


class Site(ABC):
    """A registry under test, and the world behind it."""

    subject: Registry

    @abstractmethod
    def announce(self, instance: str, endpoint: str) -> None: ...

    @abstractmethod
    def withdraw(self, instance: str) -> None: ...

    @abstractmethod
    def put_key(self, key: KeyEntry) -> KeyEntry:
        """Hand out a key; returns it as the registry under test will show it."""

    def close(self) -> None:
        self.subject.stop()


class StaticSite(Site):
    def __init__(self) -> None:
        self.subject: StaticRegistry = StaticRegistry()

    def announce(self, instance: str, endpoint: str) -> None:
        kept = [entry for entry in self.subject.detectors() if entry.instance != instance]
        self.subject.replace(detectors=[*kept, DetectorEntry(instance, (endpoint,))])

    def withdraw(self, instance: str) -> None:
        kept = [entry for entry in self.subject.detectors() if entry.instance != instance]
        self.subject.replace(detectors=kept)

    def put_key(self, key: KeyEntry) -> KeyEntry:
        self.subject.replace(keys=[*self.subject.keys(), key])
        return key


class EtcdSite(Site):
    def __init__(self, server: LocalEtcd) -> None:
        self.operator = Operator(options(server))
        self.operator.connection._client.delete_prefix("/ml-defender/")
        self.subject = self.etcd = registry(options(server))

    def announce(self, instance: str, endpoint: str) -> None:
        self.operator.announce(instance, at(endpoint))

    def withdraw(self, instance: str) -> None:
        self.operator.withdraw(instance)

    def put_key(self, key: KeyEntry) -> KeyEntry:
        self.etcd.put_key(key)
        return key

    def close(self) -> None:
        super().close()
        self.operator.connection.close()


class HttpSite(Site):
    """Keys have no names there, and one takes the place of the other."""

    def __init__(self) -> None:
        self.server = HttpRegistryServer(keyless=True)
        self.server.start()
        self.subject = http_registry(self.server.url, detectors=("d1", "d2"))
        self._keys = 0

    def announce(self, instance: str, endpoint: str) -> None:
        self.server.put_config(instance, {"component": instance, "endpoint": endpoint})

    def withdraw(self, instance: str) -> None:
        self.server.drop(instance)

    def put_key(self, key: KeyEntry) -> KeyEntry:
        self.server.seed = key.material.upper()
        self._keys += 1
        return replace(key, key_id=f"seed-{self._keys}")

    def close(self) -> None:
        super().close()
        self.server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEtcd]:
    with LocalEtcd(tmp_path_factory.mktemp("etcd")) as started:
        yield started


@pytest.fixture(params=["static", "etcd", "http"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    made: Site
    if request.param == "static":
        made = StaticSite()
    elif request.param == "http":
        made = HttpSite()
    else:
        made = EtcdSite(request.getfixturevalue("server"))
    yield made
    made.close()


def test_it_is_connected_between_start_and_stop(site: Site) -> None:
    assert not site.subject.facts().connected
    site.subject.start()
    eventually(lambda: site.subject.facts().connected)
    site.subject.stop()
    eventually(lambda: not site.subject.facts().connected)


def test_detectors_and_keys_that_were_there_before_are_found(site: Site) -> None:
    site.announce("d2", "tcp://b:1")
    site.announce("d1", "tcp://a:1")
    key = site.put_key(KEY)
    site.subject.start()
    eventually(lambda: len(site.subject.detectors()) == 2 and site.subject.keys() == [key])
    found = [(entry.instance, entry.endpoints) for entry in site.subject.detectors()]
    assert found == [("d1", ("tcp://a:1",)), ("d2", ("tcp://b:1",))]


def test_a_detector_is_followed_as_it_comes_moves_and_goes(site: Site) -> None:
    site.subject.start()
    site.announce("d1", "tcp://a:1")
    eventually(lambda: [e.endpoints for e in site.subject.detectors()] == [("tcp://a:1",)])
    site.announce("d1", "tcp://a:2")
    eventually(lambda: [e.endpoints for e in site.subject.detectors()] == [("tcp://a:2",)])
    site.withdraw("d1")
    eventually(lambda: site.subject.detectors() == [])


def test_a_key_that_is_added_comes_after_the_earlier_ones(site: Site) -> None:
    first = site.put_key(KEY)
    site.subject.start()
    eventually(lambda: len(site.subject.keys()) == 1)
    second = site.put_key(KeyEntry("a0", "ml-detector", "secretbox-v0", HEX[::-1], "key", ""))
    eventually(lambda: site.subject.keys() == [first, second])


def test_listeners_are_called_after_a_change(site: Site) -> None:
    seen: list[list[str]] = []
    site.subject.subscribe(lambda: seen.append([e.instance for e in site.subject.detectors()]))
    site.subject.start()
    site.announce("d1", "tcp://a:1")
    eventually(lambda: ["d1"] in seen)


def test_a_listener_that_fails_harms_nobody(site: Site) -> None:
    called = threading.Event()

    def fail() -> None:
        raise RuntimeError("a listener's own fault")

    site.subject.subscribe(fail)
    site.subject.subscribe(called.set)
    site.subject.start()
    site.announce("d1", "tcp://a:1")
    assert called.wait(10)
    called.clear()
    site.announce("d2", "tcp://a:1")
    assert called.wait(10)


def test_what_is_handed_out_can_be_changed_without_harm(site: Site) -> None:
    site.announce("d1", "tcp://a:1")
    site.put_key(KEY)
    site.subject.start()
    eventually(lambda: len(site.subject.detectors()) == len(site.subject.keys()) == 1)
    site.subject.detectors().clear()
    site.subject.keys().clear()
    assert len(site.subject.detectors()) == len(site.subject.keys()) == 1


def test_a_status_may_be_published_at_any_time(site: Site) -> None:
    site.subject.publish_status({"status": "starting"})
    site.subject.start()
    site.subject.publish_status({"status": "running", "open_days": ["2017-07-04"]}, urgent=True)
    site.subject.stop()
    site.subject.publish_status({"status": "stopped"}, urgent=True)


def test_stopping_without_a_start_and_twice_is_fine(site: Site) -> None:
    site.subject.stop()
    site.subject.start()
    site.subject.stop()
    site.subject.stop()


def test_facts_can_be_written_as_json(site: Site) -> None:
    site.announce("d1", "tcp://a:1")
    site.subject.start()
    eventually(lambda: site.subject.facts().connected)
    assert json.loads(json.dumps(asdict(site.subject.facts())))["kind"] in {
        "static",
        "etcd",
        "http",
    }
