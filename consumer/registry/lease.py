"""Our own value on the registry, and the lease that it lives under."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import structlog

from consumer.clock import Clock
from consumer.registry.client import EtcdConnection, LeaseLostError

log = structlog.get_logger("registry")


@dataclass(frozen=True, slots=True)
class LeaseFacts:
    """See RegistryFacts."""

    lease_id: int | None = None
    registered_since_ns: int | None = None
    last_heartbeat_ns: int | None = None
    renewals: int = 0
    reregistrations: int = 0


class Registration:
    """Keeps one key written under a lease that lives.

    The id of a lease is drawn here and not by the server, so that a lease can be revoked even if
    the answer that granted it never came.

    Args:
        key: our key on the registry.
        ttl_s: time to live of the lease, whole seconds.
        value: makes the present value.
        clock: stamps the facts.
        random: draws lease ids.
    """

    def __init__(
        self, key: str, ttl_s: int, value: Callable[[], bytes], clock: Clock, random: Random
    ) -> None:
        self._key = key
        self._ttl_s = ttl_s
        self._value = value
        self._clock = clock
        self._random = random
        self._lock = threading.Lock()
        self._lease_id: int | None = None
        self._facts = LeaseFacts()

    @property
    def lease_id(self) -> int | None:
        """The lease to revoke on leaving; it may not have reached the server yet."""
        return self._lease_id

    def facts(self) -> LeaseFacts:
        """The lease under which we are registered, and what became of it so far."""
        with self._lock:
            return self._facts

    def renew(self, connection: EtcdConnection) -> bool:
        """One heartbeat: refresh the lease and write the value. True if that took a new lease.

        A server answers the refresh of a lease that it does not know with a time to live of 0.
        Such a lease stays dead, so a new one is granted and the key written again.

        Raises:
            RegistryError: the member did not do it.
        """
        lease_id = self._lease_id
        if lease_id is not None and connection.refresh(lease_id) > 0:
            try:
                self._write(connection, lease_id)
            except LeaseLostError:
                pass
            else:
                return False
        lease_id = self._random.getrandbits(62) + 1
        self._lease_id = lease_id
        connection.grant(lease_id, self._ttl_s)
        self._write(connection, lease_id)
        return True

    def write(self, connection: EtcdConnection) -> None:
        """Write the value out of turn, without touching the lease.

        Raises:
            RegistryError: the member did not do it.
        """
        if self._lease_id is not None:
            connection.put(self._key, self._value(), self._lease_id)

    def forget(self) -> None:
        """The lease was revoked or given up."""
        self._lease_id = None
        with self._lock:
            self._facts = replace(self._facts, lease_id=None, registered_since_ns=None)

    def _write(self, connection: EtcdConnection, lease_id: int) -> None:
        connection.put(self._key, self._value(), lease_id)
        now_ns = self._clock.now_ns()
        with self._lock:
            before = self._facts
            if before.lease_id == lease_id:
                self._facts = replace(
                    before, last_heartbeat_ns=now_ns, renewals=before.renewals + 1
                )
                return
            again = before.lease_id is not None
            self._facts = replace(
                before,
                lease_id=lease_id,
                registered_since_ns=now_ns,
                last_heartbeat_ns=now_ns,
                reregistrations=before.reregistrations + again,
            )
        log.info(
            "registered again" if again else "registered", key=self._key, lease=f"{lease_id:x}"
        )
