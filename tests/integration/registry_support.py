"""What the registry tests share: short times, and an operator with a hand of its own on etcd."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Self

from consumer.registry.base import KeyEntry
from consumer.registry.client import EtcdConnection
from consumer.registry.entries import Layout, ServiceEntry
from consumer.registry.etcd import EtcdRegistry
from consumer.registry.http import HttpRegistry
from consumer.registry.local_etcd import LocalEtcd
from consumer.registry.options import EtcdOptions, HttpOptions

LAYOUT = Layout()
HEX = "0123456789abcdef" * 4
TTL_S = 2
HEARTBEAT_S = 0.25
HTTP_HEARTBEAT_S = 0.05
HTTP_TIMEOUT_S = 10.0
TIMEOUT_S = 0.4
PATIENCE_S = 15.0


def eventually(reached: Callable[[], bool], what: str = "") -> None:
    """Wait until something holds; fail if it never does."""
    end = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < end, f"waited in vain {what}"
        time.sleep(0.01)


def options(*servers: LocalEtcd) -> EtcdOptions:
    return EtcdOptions(tuple(server.endpoint for server in servers), timeout_s=TIMEOUT_S)


def service(component: str = "dayfold", instance: str = "one", *endpoints: str) -> ServiceEntry:
    return ServiceEntry(component, instance, "0.1.0", "box", 42, 0, endpoints)


def registry(reach: EtcdOptions, entry: ServiceEntry | None = None, **more: Any) -> EtcdRegistry:
    """A registry with short times."""
    return EtcdRegistry(
        reach, entry or service(), lease_ttl_s=TTL_S, heartbeat_s=HEARTBEAT_S, **more
    )


def detector(reach: EtcdOptions, instance: str, *endpoints: str) -> EtcdRegistry:
    """A detector stand-in's own registration."""
    return registry(reach, service("ml-detector", instance, *endpoints), detectors=None)


def http_registry(*urls: str, **more: Any) -> HttpRegistry:
    """An HTTP registry with short times."""
    times = {"heartbeat_s": HTTP_HEARTBEAT_S, "timeout_s": HTTP_TIMEOUT_S}
    times |= {name: more.pop(name) for name in tuple(more) if name in times}
    return HttpRegistry(HttpOptions(urls, **times), service(), **more)


class Operator:
    """Reads and writes etcd directly."""

    def __init__(self, reach: EtcdOptions) -> None:
        self.connection = EtcdConnection(reach.endpoints[0], reach)
        self.connection.login()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def value(self, component: str = "dayfold", instance: str = "one") -> dict[str, Any] | None:
        """What a component has registered; None if it has not."""
        key = LAYOUT.service(component, instance)
        for item in self.connection.read(key).items:
            if item.key == key and item.value is not None:
                read: dict[str, Any] = json.loads(item.value)
                return read
        return None

    def keys_of_lease(self, lease_hex: str) -> list[str]:
        """The registry keys that live under a lease."""
        info = self.connection._client.get_lease_info(int(lease_hex, 16))
        return [key.decode() for key in info.keys]

    def announce(self, instance: str, value: bytes) -> None:
        """Write a detector's value as it is."""
        self.connection.put(LAYOUT.service("ml-detector", instance), value)

    def withdraw(self, instance: str) -> None:
        self.connection.delete(LAYOUT.service("ml-detector", instance))

    def compact(self) -> None:
        """Write somewhere else and forget everything before."""
        for value in (b"x", b"y"):
            self.connection.put("/elsewhere", value)
        revision = self.connection.read("/elsewhere").revision
        self.connection._client.compact(revision)


def at(endpoint: str) -> bytes:
    """A detector's value with one endpoint."""
    return json.dumps({"component": "ml-detector", "endpoint": endpoint}).encode()


def key_ids(keys: list[KeyEntry]) -> list[str]:
    return [key.key_id for key in keys]


def instances(subject: EtcdRegistry) -> list[str]:
    return [entry.instance for entry in subject.detectors()]
