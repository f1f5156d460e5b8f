"""The registry on etcd v3."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from random import Random, SystemRandom

import structlog

from consumer.backoff import backoff
from consumer.clock import Clock, SystemClock
from consumer.errors import ConfigurationError, RegistryError
from consumer.registry.base import JSON, DetectorEntry, KeyEntry, Registry, RegistryFacts
from consumer.registry.client import EtcdConnection, LeaseLostError, call_any
from consumer.registry.directory import Directory
from consumer.registry.entries import Layout, ServiceEntry, check_name, plain, write_key
from consumer.registry.lease import Registration
from consumer.registry.options import EtcdOptions
from consumer.registry.session import Session, SessionHooks

log = structlog.get_logger("registry")

# `stop` promises two seconds: the lease is revoked within the first, the thread ends in the second.
_LEAVE_S = 1.0
_STOP_S = 1.8


class EtcdRegistry(Registry):
    """Registers under a lease, and follows detectors and keys, on a thread of its own.

    Whatever fails, the thread goes on to the next endpoint; once all have failed it pauses, longer
    each time and by chance, up to `backoff_cap_s`. Meanwhile detectors and keys stay as last known.
    Each new contact lists them again, because a watch does not notice that its server was frozen
    or came back with other data.

    Args:
        options: how to reach etcd.
        entry: who we are; any component can be registered, not only this service.
        prefix: key prefix of the deployment.
        detectors: component whose instances are listed as detectors; None follows nothing, neither
            detectors nor keys, and needs no permission to read them.
        lease_ttl_s: time to live of our lease; at least twice `heartbeat_s`.
        heartbeat_s: seconds between two heartbeats.
        backoff_base_s: bound of the first pause after every endpoint failed, seconds.
        backoff_cap_s: bound of every pause; by default the heartbeat interval, so that an etcd
            that is back has us again within one heartbeat.
        clock: stamps values and facts.
        random: jitter and lease ids.

    Raises:
        ConfigurationError: times or prefix that cannot work.
    """

    def __init__(
        self,
        options: EtcdOptions,
        entry: ServiceEntry,
        *,
        prefix: str = "/ml-defender",
        detectors: str | None = "ml-detector",
        lease_ttl_s: int = 60,
        heartbeat_s: float = 20.0,
        backoff_base_s: float = 0.5,
        backoff_cap_s: float | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        super().__init__()
        if lease_ttl_s < 1 or not 0 < heartbeat_s * 2 <= lease_ttl_s:
            raise ConfigurationError(
                f"registry.etcd: heartbeat_s = {heartbeat_s:g} must be above 0 and at most half of "
                f"lease_ttl_s = {lease_ttl_s}: one missed heartbeat must not lose the lease"
            )
        self._options = options
        self._entry = entry
        self._layout = Layout(prefix)
        self._heartbeat_s = heartbeat_s
        self._backoff_cap_s = heartbeat_s if backoff_cap_s is None else backoff_cap_s
        self._backoff_base_s = min(backoff_base_s, self._backoff_cap_s)
        self._clock: Clock = clock or SystemClock()
        self._random = random or SystemRandom()
        self._prefixes: tuple[str, ...] = ()
        if detectors is not None:
            check_name("component", detectors)
            self._prefixes = (self._layout.services(detectors), self._layout.crypto())
        self._directory = Directory(self._layout, detectors or "")
        key = self._layout.service(entry.component, entry.instance)
        self._registration = Registration(key, lease_ttl_s, self._value, self._clock, self._random)
        self._thread = threading.Thread(target=self._run, name="registry", daemon=True)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._connection: EtcdConnection | None = None
        self._session: Session | None = None
        self._status: Mapping[str, JSON] = {}
        self._endpoint: str | None = None
        self._last_error: str | None = None
        self._rereads = 0
        self._failures = 0

    def start(self) -> None:
        """Begin; returns at once, whether etcd is there or not."""
        self._thread.start()

    def stop(self) -> None:
        """Revoke the lease, and with it our key, and end; within two seconds even if etcd hangs."""
        self._stopping.set()
        with self._lock:
            session, connection = self._session, self._connection
        if session is not None:
            session.ask("end")
        if connection is not None:
            # Ends a call that waits for a server that does not answer.
            connection.close()
        if self._thread.ident is None or self._thread is threading.current_thread():
            return
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            log.warning("the registry thread did not end in time", seconds=_STOP_S)

    def publish_status(self, status: Mapping[str, JSON], *, urgent: bool = False) -> None:
        """Replace the status that goes out with the next heartbeat, or at once when `urgent`."""
        copy = plain(status)
        with self._lock:
            self._status = copy
            session = self._session
        if urgent and session is not None:
            session.ask("write")

    def detectors(self) -> list[DetectorEntry]:
        """The detectors last known, by instance name."""
        return self._directory.detectors()

    def keys(self) -> list[KeyEntry]:
        """The keys last known, in the order in which they were last written."""
        return self._directory.keys()

    def facts(self) -> RegistryFacts:
        """How the registry is now."""
        lease = self._registration.facts()
        malformed, reasons = self._directory.faults()
        with self._lock:
            return RegistryFacts(
                kind="etcd",
                connected=self._endpoint is not None,
                endpoint=self._endpoint,
                lease_id=None if lease.lease_id is None else f"{lease.lease_id:x}",
                registered_since_ns=lease.registered_since_ns,
                last_heartbeat_ns=lease.last_heartbeat_ns,
                last_error=self._last_error,
                renewals=lease.renewals,
                reregistrations=lease.reregistrations,
                rereads=self._rereads,
                malformed=malformed,
                malformed_keys=reasons,
            )

    def put_key(self, entry: KeyEntry) -> None:
        """Write a crypto key for everyone, without a lease. Waits for etcd.

        Raises:
            ConfigurationError: a name in it cannot be part of a registry key.
            RegistryError: no endpoint took it.
        """
        key = self._crypto_key(entry.component, entry.key_id)
        call_any(self._options, lambda connection: connection.put(key, write_key(entry)))

    def delete_key(self, key_id: str, component: str = "ml-detector") -> bool:
        """Delete a crypto key. False if it was not there. Waits for etcd.

        Raises:
            ConfigurationError: a name cannot be part of a registry key.
            RegistryError: no endpoint did it.
        """
        key = self._crypto_key(component, key_id)
        return call_any(self._options, lambda connection: connection.delete(key))

    def _crypto_key(self, component: str, key_id: str) -> str:
        check_name("component", component)
        check_name("key_id", key_id)
        return self._layout.crypto_key(component, key_id)

    def _value(self) -> bytes:
        with self._lock:
            status = self._status
        return self._entry.value(status, self._clock.now_ns())

    def _run(self) -> None:
        endpoints = self._options.endpoints
        turn = 0
        while not self._stopping.is_set():
            endpoint = endpoints[turn % len(endpoints)]
            try:
                self._serve(endpoint)
            except RegistryError as error:
                self._note_failure(str(error))
            except Exception as error:  # noqa: BLE001 - membership must survive a fault of ours
                self._note_failure(f"{type(error).__name__}: {error}")
            turn += 1
            if self._failures % len(endpoints) == 0:
                self._stopping.wait(self._pause_s(self._failures // len(endpoints)))
        self._leave()

    def _pause_s(self, rounds: int) -> float:
        return backoff(
            max(0, rounds - 1),
            base_s=self._backoff_base_s,
            cap_s=self._backoff_cap_s,
            random=self._random,
        )

    def _serve(self, endpoint: str) -> None:
        connection = EtcdConnection(endpoint, self._options)
        session = Session(
            connection,
            self._registration,
            self._directory,
            self._prefixes,
            heartbeat_s=self._heartbeat_s,
            hooks=SessionHooks(
                connected=lambda: self._note_contact(endpoint),
                beat=self._note_beat,
                reread=self._note_reread,
                changed=self._notify,
            ),
        )
        with self._lock:
            self._connection, self._session = connection, session
        try:
            # `stop` sets the flag before it looks for a connection to close.
            if not self._stopping.is_set():
                connection.login()
                session.run()
        finally:
            with self._lock:
                self._connection = self._session = self._endpoint = None
            connection.close()

    def _leave(self) -> None:
        lease_id = self._registration.lease_id
        if lease_id is None:
            return
        # A fresh connection: `stop` may have closed the other one in the middle of a call.
        began = time.monotonic()
        try:
            call_any(
                self._options,
                lambda connection: connection.revoke(lease_id),
                budget_s=_LEAVE_S,
            )
        except LeaseLostError:
            log.info("the lease was gone already", lease=f"{lease_id:x}")
        except RegistryError as error:
            log.warning(
                "could not deregister; the lease is left to expire",
                lease=f"{lease_id:x}",
                seconds=round(time.monotonic() - began, 3),
                error=str(error),
            )
        else:
            log.info("deregistered", lease=f"{lease_id:x}")
        self._registration.forget()

    def _note_contact(self, endpoint: str) -> None:
        with self._lock:
            self._endpoint, self._last_error = endpoint, None
        log.info("registry connected", endpoint=endpoint)

    def _note_beat(self) -> None:
        # Only a contact that lasted lets the pauses start over: one that comes and goes does not.
        self._failures = 0

    def _note_reread(self) -> None:
        with self._lock:
            self._rereads += 1

    def _note_failure(self, text: str) -> None:
        self._failures += 1
        if self._stopping.is_set():
            return
        with self._lock:
            news = self._last_error is None
            self._last_error = text
        if news:
            log.warning("registry lost; retrying", error=text)
        else:
            log.debug("registry still lost", error=text, failures=self._failures)
