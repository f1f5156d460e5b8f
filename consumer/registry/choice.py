"""From settings to a registry: which one, and who we are on it."""

from __future__ import annotations

import os
import socket

import consumer
from consumer.clock import Clock
from consumer.registry.base import Registry
from consumer.registry.entries import ServiceEntry
from consumer.registry.etcd import EtcdRegistry
from consumer.registry.options import EtcdOptions
from consumer.registry.static import StaticRegistry
from consumer.settings import EtcdSettings, Settings


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


def open_registry(settings: Settings, instance: str, clock: Clock) -> Registry:
    """The registry that the settings choose; not started yet.

    Raises:
        ConfigurationError: its settings cannot work.
    """
    registry = settings.registry
    if registry.kind == "static":
        return StaticRegistry()
    return EtcdRegistry(
        etcd_options(registry.etcd),
        ServiceEntry(
            component=registry.component,
            instance=instance,
            version=consumer.__version__,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at_ns=clock.now_ns(),
        ),
        prefix=registry.etcd.prefix,
        detectors=settings.detector.component,
        lease_ttl_s=registry.etcd.lease_ttl_s,
        heartbeat_s=registry.etcd.heartbeat_s,
        clock=clock,
    )
