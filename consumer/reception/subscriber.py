"""Live reception: one ZeroMQ SUB socket per detector, drained by one thread.

The publisher drops what a slow subscriber does not fetch, so one thread does nothing but fetch: it
reads without waiting, in bursts, socket after socket, and puts what it read into a handover with
a limit in bytes. ZeroMQ sockets are used by that thread only; everyone else leaves word and wakes
it.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Collection
from typing import Final

import structlog
import zmq

from consumer.clock import Clock
from consumer.errors import ConfigurationError, DayfoldError, UsageError
from consumer.reception.endpoints import Endpoint, check_curve_key, check_endpoint, connectable
from consumer.reception.handover import Handover
from consumer.reception.link import DetectorLink, Link, LinkOptions, LinkRecord, tell
from consumer.reception.sources import Arrival, EventSource

__all__ = ["DetectorLink", "Endpoint", "Subscriber", "connectable"]

log = structlog.get_logger("subscriber")

MIB: Final = 1024 * 1024
BURST_MESSAGES: Final = 256
BURST_BYTES: Final = 4 * MIB
RETIRED_RECORDS: Final = 256
_IDLE_S: Final = 1.0
_REOPEN_S: Final = 10.0
_LAST_BURSTS: Final = 100
_JOIN_S: Final = 5.0

_Name = tuple[str, str]


class Subscriber(EventSource):
    """Receives from every detector it is pointed at.

    Each socket is read for at most 256 messages or 4 MiB in a row, so that a detector that floods
    cannot starve the others. Inside ZeroMQ nothing is limited (the drain thread never waits, so
    nothing piles up there); the handover holds `handover_bytes`. **At that limit messages are
    dropped**, those of the detector that holds the most, and counted per detector.

    Multi-part messages and messages above `max_message_bytes` are dropped and counted. A message
    above twice that size costs the connection, which is made again and shows as a gap.

    A detector that disconnects, does not answer a heartbeat in time or fails the handshake is
    connected again, at first after `reconnect_ivl_ms`, then ever more slowly up to
    `reconnect_ivl_max_ms`. Host names are looked up by ZeroMQ's one I/O thread: prefer IP
    addresses, since a slow name server holds up every detector.

    Args:
        clock: arrival times and grace times.
        handover_bytes: most bytes received and not yet taken, 128 bytes per message included.
        heartbeat_ivl_ms: a heartbeat is sent this often.
        heartbeat_timeout_ms: a detector silent for so long after a heartbeat is disconnected.
        grace_s: seconds for which an endpoint that was taken away stays connected.
        curve_public, curve_secret: our CURVE keys in Z85. Without them a pair is made at start,
            which a detector accepts unless it has a list of clients.

    Raises:
        ConfigurationError: a limit or time that is not positive, or one CURVE key without the
            other.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        handover_bytes: int = 64 * MIB,
        heartbeat_ivl_ms: int = 2_000,
        heartbeat_timeout_ms: int = 6_000,
        reconnect_ivl_ms: int = 100,
        reconnect_ivl_max_ms: int = 10_000,
        grace_s: float = 30.0,
        max_message_bytes: int = 32 * MIB,
        curve_public: str | None = None,
        curve_secret: str | None = None,
    ) -> None:
        _check_positive(
            handover_bytes=handover_bytes,
            heartbeat_ivl_ms=heartbeat_ivl_ms,
            heartbeat_timeout_ms=heartbeat_timeout_ms,
            reconnect_ivl_ms=reconnect_ivl_ms,
            reconnect_ivl_max_ms=reconnect_ivl_max_ms,
            max_message_bytes=max_message_bytes,
        )
        public, secret = _curve_pair(curve_public, curve_secret)
        self._clock = clock
        self._grace_s = grace_s
        self._options = LinkOptions(
            heartbeat_ivl_ms,
            heartbeat_timeout_ms,
            reconnect_ivl_ms,
            reconnect_ivl_max_ms,
            max_message_bytes,
            public,
            secret,
        )
        self._handover = Handover(handover_bytes)
        self._thread = threading.Thread(target=self._run, name="drain", daemon=True)
        # The lock guards what threads share; everything below it belongs to the drain thread.
        self._lock = threading.Lock()
        self._wake_fd: int | None = None
        self._wanted: dict[_Name, Endpoint] = {}
        self._changed = False
        self._stopping = False
        self._died = False
        self._records: dict[_Name, LinkRecord] = {}
        self._links: dict[_Name, Link] = {}
        self._leave_at: dict[_Name, float] = {}
        self._reopen_at: dict[_Name, float] = {}
        self._unsettled = False
        self._poller = zmq.Poller()

    def start(self) -> None:
        """Start the drain thread.

        Raises:
            UsageError: it was started or stopped before.
        """
        with self._lock:
            if self._wake_fd is not None or self._stopping:
                raise UsageError("the subscriber was started or stopped before; make a new one")
            self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread.start()

    def stop(self) -> None:
        """Disconnect from every detector and end the drain thread.

        What has reached this machine by then is still read, up to 100 bursts from each detector,
        and can be taken.
        """
        with self._lock:
            self._stopping = True
            self._wake()
        if self._thread.ident is None:
            self._handover.close()
            return
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            log.error("the drain thread did not end in time", seconds=_JOIN_S)
            return
        with self._lock:
            if self._wake_fd is not None:
                os.close(self._wake_fd)
                self._wake_fd = None

    def take(self, limit: int, timeout_s: float) -> list[Arrival]:
        """Hand out up to `limit` messages; see `EventSource.take`. Detectors take turns."""
        arrivals = self._handover.take(limit, timeout_s)
        if not arrivals and self._died:
            raise DayfoldError("the drain thread has broken down; restart the service")
        return arrivals

    @property
    def drained(self) -> bool:
        """Whether the subscriber has stopped and all that it received is taken."""
        return self._handover.drained

    @property
    def alive(self) -> bool:
        """Whether the drain thread runs."""
        return self._thread.is_alive()

    @property
    def held_bytes(self) -> int:
        """Bytes received and not yet taken, 128 bytes per message included."""
        return self._handover.held_bytes

    def set_endpoints(self, endpoints: Collection[Endpoint]) -> None:
        """Listen to exactly these from now on. Safe from any thread; returns at once.

        New ones are connected; those that are gone are disconnected after the grace time, unless
        they come back before. An endpoint that cannot be used hurts no other: it is listed by
        `facts` with its fault. Of two with the same detector and address the last one counts.
        """
        wanted = {(endpoint.detector, endpoint.address): endpoint for endpoint in endpoints}
        with self._lock:
            self._wanted = wanted
            self._changed = True
            self._wake()

    def facts(self, *, retired: bool = False) -> list[DetectorLink]:
        """How each link is, by detector and address.

        With `retired` also those (up to 256) whose endpoint was taken away.
        """
        with self._lock:
            records = list(self._records.values())
        listed = [record.facts() for record in records if retired or not record.retired]
        return sorted(listed, key=lambda link: (link.detector, link.address))

    def _wake(self) -> None:
        if self._wake_fd is not None:
            os.eventfd_write(self._wake_fd, 1)

    def _run(self) -> None:
        regular = False
        try:
            self._receive()
            regular = True
        finally:
            self._died = not regular
            self._handover.close()

    def _receive(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._drain(context)
        finally:
            for link in self._links.values():
                link.close()
            # By now every socket should be closed; one that is not would hold this up for ever.
            context.destroy(linger=0)

    def _drain(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        wake = self._wake_fd
        assert wake is not None  # noqa: S101 - `start` made it before this thread
        self._poller.register(wake, zmq.POLLIN)
        timeout_ms = 0
        while True:
            ready = dict(self._poller.poll(timeout_ms))
            if wake in ready:
                os.eventfd_read(wake)
            with self._lock:
                stopping, changed, wanted = self._stopping, self._changed, self._wanted
                self._changed = False
            self._round(ready)
            if stopping:
                self._read_the_rest()
                return
            now = self._clock.monotonic()
            due = min([*self._leave_at.values(), *self._reopen_at.values()], default=now + _IDLE_S)
            if changed or self._unsettled or due <= now:
                if changed:
                    self._retry_unopened()
                self._settle(context, wanted, now)
                self._unsettled = False
                due = now
            timeout_ms = math.ceil(1000 * min(max(due - now, 0.0), _IDLE_S))

    def _round(self, ready: dict[object, int]) -> int:
        """One burst from every socket that has something; how many messages came."""
        count = 0
        for name, link in list(self._links.items()):
            record = self._records[name]
            # First the monitor: whoever takes a message finds its detector connected.
            if link.monitor in ready:
                link.watch(record, self._clock.now_ns())
                self._unsettled = True
            if link.socket in ready:
                count += self._burst(link, record)
        return count

    def _pause_s(self, name: _Name) -> float:
        """How long to wait before a socket is made anew: doubling, as ZeroMQ's own pauses do."""
        first, longest = self._options.reconnect_ivl_ms, self._options.reconnect_ivl_max_ms
        return min(longest, first * 2.0 ** min(self._records[name].reopened, 32)) / 1000

    def _retry_unopened(self) -> None:
        """Endpoints were set anew, so one that could not be opened may be right by now."""
        for name in self._reopen_at.keys() - self._links.keys():
            del self._reopen_at[name]

    def _burst(self, link: Link, record: LinkRecord) -> int:
        messages = link.burst(record, BURST_MESSAGES, BURST_BYTES)
        if messages:
            detector, now_ns = record.detector, self._clock.now_ns()
            record.note_burst(messages, now_ns)
            self._handover.put(
                record.lane, [Arrival(detector, now_ns, message) for message in messages]
            )
        return len(messages)

    def _read_the_rest(self) -> None:
        # Bounded in bursts: a detector that never pauses must not keep us from stopping.
        for _ in range(_LAST_BURSTS):
            if self._round(dict(self._poller.poll(0))) == 0:
                return

    def _settle(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        wanted: dict[_Name, Endpoint],
        now: float,
    ) -> None:
        """Make the links what is wanted: open, let go after the grace time, take back, renew."""
        for name, link in list(self._links.items()):
            if name not in wanted:
                self._reopen_at.pop(name, None)
                if self._leave_at.setdefault(name, now + self._grace_s) <= now:
                    self._close(name, link, "endpoint taken away")
            elif wanted[name] != link.endpoint:
                self._reopen_at.pop(name, None)
                self._close(name, link, "CURVE key changed")
            elif not link.abandoned:
                self._reopen_at.pop(name, None)
            elif self._reopen_at.setdefault(name, now + self._pause_s(name)) <= now:
                self._records[name].reopened += 1
                self._take_down(name, link)
        self._forget_unwanted(wanted)
        for name, endpoint in wanted.items():
            self._leave_at.pop(name, None)
            if name not in self._links and self._reopen_at.get(name, now) <= now:
                self._open(context, name, endpoint, now)

    def _open(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        name: _Name,
        endpoint: Endpoint,
        now: float,
    ) -> None:
        record = self._record(name, endpoint)
        try:
            check_endpoint(endpoint)
            link = Link(context, endpoint, self._options)
        except (ConfigurationError, zmq.ZMQError) as error:
            if record.fault is None:
                tell("error", "detector cannot be listened to", endpoint, error=str(error))
            record.fault = str(error)
            self._reopen_at[name] = now + _REOPEN_S
            return
        self._reopen_at.pop(name, None)
        self._links[name] = link
        self._poller.register(link.socket, zmq.POLLIN)
        if link.monitor is not None:
            self._poller.register(link.monitor, zmq.POLLIN)

    def _take_down(self, name: _Name, link: Link) -> None:
        """Close the sockets, after reading what is left in them."""
        for _ in range(_LAST_BURSTS):
            if self._burst(link, self._records[name]) == 0:
                break
        self._poller.unregister(link.socket)
        if link.monitor is not None:
            self._poller.unregister(link.monitor)
        link.close()
        del self._links[name]

    def _close(self, name: _Name, link: Link, reason: str) -> None:
        self._take_down(name, link)
        record = self._records[name]
        record.note_lost(self._clock.now_ns(), 0)
        record.fault = reason
        tell("info", "detector disconnected", link.endpoint, reason=reason)

    def _record(self, name: _Name, endpoint: Endpoint) -> LinkRecord:
        with self._lock:
            if name not in self._records:
                self._records[name] = LinkRecord(
                    endpoint, self._handover.lane(), self._clock.now_ns()
                )
            record = self._records[name]
            record.retired = False
            return record

    def _forget_unwanted(self, wanted: dict[_Name, Endpoint]) -> None:
        """Retire the records of closed links, newest last, and keep a bounded number of them."""
        with self._lock:
            for name in self._records.keys() - wanted.keys() - self._links.keys():
                if not self._records[name].retired:
                    record = self._records.pop(name)
                    record.retired = True
                    self._records[name] = record
                self._leave_at.pop(name, None)
                self._reopen_at.pop(name, None)
            retired = [name for name, record in self._records.items() if record.retired]
            for name in retired[: max(0, len(retired) - RETIRED_RECORDS)]:
                del self._records[name]


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ConfigurationError(f"subscriber: {name} is {value}; it must be at least 1")


def _curve_pair(public: str | None, secret: str | None) -> tuple[str, str]:
    if public is None and secret is None:
        made_public, made_secret = zmq.curve_keypair()
        return made_public.decode(), made_secret.decode()
    if public is None or secret is None:
        raise ConfigurationError(
            "subscriber: curve_public and curve_secret belong together; give both or neither"
        )
    check_curve_key(public, "curve_public")
    check_curve_key(secret, "curve_secret")
    return public, secret
