"""From settings to a registry: which one, and who we are on it."""

from __future__ import annotations

import os
import socket

import consumer
from consumer.clock import Clock
from consumer.registry.base import JSON, Registry
from consumer.registry.entries import ServiceEntry
from consumer.registry.options import EtcdOptions, HttpOptions
from consumer.registry.static import StaticRegistry
from consumer.setting_registry import EtcdSettings
from consumer.settings import INDEX_NAMES, Settings


def etcd_options(settings: EtcdSettings) -> EtcdOptions:
    """How to reach etcd, from the settings.

    Raises:
        ConfigurationError: an endpoint, certificate or password cannot be used.
    """
    password = settings.password
    return EtcdOptions(
        endpoints=settings.endpoints,
        ca_cert=settings.ca_cert,
        client_cert=settings.client_cert,
        client_key=settings.client_key,
        user=settings.user,
        password=None if password is None else password.get_secret_value(),
        timeout_s=settings.timeout_s,
    )


def shown_settings(settings: Settings) -> dict[str, JSON]:
    """What other components may see of our settings: one by one, so that no secret slips in."""
    return {
        "day.timezone": settings.day.timezone,
        "day.clock": settings.day.clock,
        "day.grace_s": settings.day.grace_s,
        "day.settle_s": settings.day.settle_s,
        "journal.commit_interval_ms": settings.journal.commit_interval_ms,
        "registry.http.heartbeat_s": settings.registry.http.heartbeat_s,
    }


def open_registry(settings: Settings, instance: str, clock: Clock) -> Registry:
    """The registry that the settings choose; not started yet.

    Raises:
        ConfigurationError: its settings cannot work.
    """
    registry = settings.registry
    if registry.kind == "static":
        return StaticRegistry()
    entry = ServiceEntry(
        component=registry.component,
        instance=instance,
        version=consumer.__version__,
        host=socket.gethostname(),
        pid=os.getpid(),
        started_at_ns=clock.now_ns(),
    )
    # Imported here: a start should not pay for the clients of registries that it does not use.
    if registry.kind == "http":
        from consumer.registry.http import HttpRegistry

        return HttpRegistry(
            HttpOptions(
                urls=registry.http.urls,
                heartbeat_s=registry.http.heartbeat_s,
                timeout_s=registry.http.timeout_s,
            ),
            entry,
            component=settings.detector.component,
            detectors=registry.http.detectors,
            capabilities={"version": consumer.__version__, "indices": INDEX_NAMES},
            settings=shown_settings(settings),
            clock=clock,
        )
    from consumer.registry.etcd import EtcdRegistry

    return EtcdRegistry(
        etcd_options(registry.etcd),
        entry,
        prefix=registry.etcd.prefix,
        detectors=settings.detector.component,
        lease_ttl_s=registry.etcd.lease_ttl_s,
        heartbeat_s=registry.etcd.heartbeat_s,
        clock=clock,
    )
