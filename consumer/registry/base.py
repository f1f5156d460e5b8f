"""The interface of a registry, and the facts that it hands out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import structlog

from consumer.wire.keys import Scheme

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

log = structlog.get_logger("registry")


@dataclass(frozen=True, slots=True)
class DetectorEntry:
    """One detector that is alive now.

    Attributes:
        instance: its name on the registry.
        endpoints: where it publishes, as it says itself (``tcp://*:5572`` is possible).
        facts: the whole value that it registered.
    """

    instance: str
    endpoints: tuple[str, ...]
    facts: Mapping[str, JSON] = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One key as the registry holds it.

    Attributes:
        key_id: its name; shown in logs instead of the key.
        component: whose channel it opens.
        scheme: wire scheme of the messages that it opens.
        material: 32 bytes as 64 hex digits, lower case. Never in `repr`.
        kind: ``seed`` if the key is still to be derived from `material` with `context`, ``key`` if
            `material` is the key itself.
        context: HKDF context; means something only for a seed.
        not_before_ns: start of its life, UTC ns since 1970, or None.
        not_after_ns: end of its life, UTC ns since 1970, or None.
    """

    key_id: str
    component: str
    scheme: Scheme
    material: str = field(repr=False)
    kind: Literal["seed", "key"]
    context: str
    not_before_ns: int | None = None
    not_after_ns: int | None = None


@dataclass(frozen=True, slots=True)
class RegistryFacts:
    """How the registry is, for status pages and metrics. Times are UTC ns since 1970.

    Attributes:
        kind: ``etcd``, ``http`` or ``static``.
        connected: the last exchange with the registry succeeded.
        endpoint: the member that answers now, or None.
        lease_id: our lease in hex, as etcdctl prints it, or None while not registered, and always
            None where there are no leases.
        registered_since_ns: when the present lease was written, or when we last registered.
        last_heartbeat_ns: when the last heartbeat was accepted.
        last_error: why it is not connected; None while it is.
        renewals: heartbeats that kept us registered.
        reregistrations: times that a lost lease was replaced by a new one, or that we registered
            again.
        rereads: times that detectors and keys were listed whole: on etcd after a connect, a lost
            lease or a compaction, on the HTTP registry with each heartbeat.
        malformed: values or answers of others that could not be read, since the start.
        malformed_keys: registry keys whose present value cannot be read, or calls whose latest
            answer cannot, with the reason; at most twenty.
        components: names of every component that the HTTP registry lists; empty elsewhere.
    """

    kind: str
    connected: bool
    endpoint: str | None = None
    lease_id: str | None = None
    registered_since_ns: int | None = None
    last_heartbeat_ns: int | None = None
    last_error: str | None = None
    renewals: int = 0
    reregistrations: int = 0
    rereads: int = 0
    malformed: int = 0
    malformed_keys: Mapping[str, str] = field(default_factory=dict, hash=False)
    components: tuple[str, ...] = ()


class Registry(ABC):
    """Registers us, keeps us registered, and follows detectors and keys.

    No method waits for the registry: `start` returns at once even if it is down, `detectors` and
    `keys` answer with what was last known. An instance runs once: after `stop` make a new one.
    """

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    @abstractmethod
    def start(self) -> None:
        """Begin; returns at once."""

    @abstractmethod
    def stop(self) -> None:
        """Deregister and end within two seconds, whatever the registry does. May be repeated."""

    @abstractmethod
    def publish_status(self, status: Mapping[str, JSON], *, urgent: bool = False) -> None:
        """Replace the status that others see of us; the latest wins.

        It is written with the next heartbeat, and at once when `urgent`. What identifies us
        (component, instance, host, ...) cannot be overwritten by it. May be called before `start`.
        """

    @abstractmethod
    def detectors(self) -> list[DetectorEntry]:
        """The detectors known now, by instance name."""

    @abstractmethod
    def keys(self) -> list[KeyEntry]:
        """The keys known now, in the order in which they were last written."""

    @abstractmethod
    def facts(self) -> RegistryFacts:
        """How the registry is now."""

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Have `callback` called after detectors or keys changed.

        It runs on the registry's own thread, so it must be short. Subscribe before `start` to miss
        nothing. An error that it raises is logged and otherwise ignored.
        """
        self._callbacks.append(callback)

    def _notify(self) -> None:
        for callback in tuple(self._callbacks):
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - a listener's fault must not end membership
                # Without the traceback: its frames may hold key material.
                log.error(
                    "a listener of the registry failed",
                    error=f"{type(error).__name__}: {error}",
                )
