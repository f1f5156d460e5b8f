"""Live reception: one ZeroMQ SUB socket per detector, read by whoever takes.

The publisher drops what a slow subscriber does not fetch. While the taker keeps up, it reads the
sockets itself and has each message at once: no second thread, no queue. A thread stands by. When
the taker stays away, because the disk or anything else below holds it up, that thread fetches in
its place, into a handover with a limit in bytes, until the taker is back. So reception never
waits for anything below it.

ZeroMQ sockets may be passed from thread to thread but never shared: a lock says whose they are.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Collection, Sequence
from typing import Final

import structlog
import zmq

from consumer.clock import Clock
from consumer.errors import ConfigurationError, DayfoldError, UsageError
from consumer.reception.endpoints import Endpoint, check_curve_key, connectable
from consumer.reception.handover import Handover
from consumer.reception.link import DetectorLink, LinkOptions
from consumer.reception.links import BURST_MESSAGES, LAST_BURSTS, MIB, Burst, Links, Name
from consumer.reception.sources import Arrival, Arrivals, EventSource

__all__ = ["DetectorLink", "Endpoint", "Subscriber", "connectable"]

log = structlog.get_logger("subscriber")

#: A taker that has not looked at the sockets for so long is held up: somebody else reads them.
AWAY_S: Final = 0.1
#: Nothing stays in ZeroMQ's own queues for longer, because those have no limit in bytes.
WAITED_S: Final = 0.1
_JOIN_S: Final = 5.0
_BROKEN: Final = "the drain thread has broken down; restart the service"


class Subscriber(EventSource):
    """Receives from every detector it is pointed at.

    Each socket is read for at most 256 messages or 4 MiB in a row, so that a detector that floods
    cannot starve the others. What the taker does not fetch in time is moved into the handover,
    which holds `handover_bytes`. **At that limit messages are dropped**, those of the detector
    that holds the most, and counted per detector.

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
        handover_bytes: int = 128 * MIB,
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
        # Whose the sockets are. Held by the taker while it reads or waits for messages.
        self._sockets = threading.Lock()
        self._links: Links | None = None
        self._looks = 0
        self._emptied_at = time.monotonic()
        # The lock guards what threads leave word of: endpoints, and the end.
        self._lock = threading.Lock()
        self._wake_fd: int | None = None
        self._bell = threading.Event()
        self._wanted: dict[Name, Endpoint] = {}
        self._changed = False
        self._stopping = False
        self._died = False

    def start(self) -> None:
        """Begin to receive.

        Raises:
            UsageError: it was started or stopped before.
        """
        with self._lock:
            if self._wake_fd is not None or self._stopping:
                raise UsageError("the subscriber was started or stopped before; make a new one")
            self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._links = Links(
            self._clock,
            self._options,
            grace_s=self._grace_s,
            handover=self._handover,
            wake_fd=self._wake_fd,
        )
        self._thread.start()

    def stop(self) -> None:
        """Disconnect from every detector and end the thread that stands by.

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

    def take(self, limit: int, timeout_s: float) -> Sequence[Arrival]:
        """Hand out up to `limit` messages; see `EventSource.take`. Detectors take turns."""
        if limit < 1:
            raise ValueError(f"limit is {limit}; take at least 1 message")
        until = time.monotonic() + timeout_s
        left_s = timeout_s
        while self._links is not None and not (self._stopping or self._died):
            arrivals = self._fetch(self._links, limit, left_s)
            left_s = until - time.monotonic()
            if arrivals or left_s <= 0:
                return arrivals
        # The sockets are the other thread's for good, or not there yet.
        arrivals = self._handover.take(limit, left_s)
        if not arrivals and self._died:
            raise DayfoldError(_BROKEN)
        return arrivals

    def _fetch(self, links: Links, limit: int, left_s: float) -> Sequence[Arrival]:
        """Up to `limit` messages: those of the handover first, else straight from the sockets."""
        self._looks += 1
        with self._sockets:
            if self._stopping:
                return []
            try:
                waiting = self._handover.held_bytes > 0
                bursts = self._look(links, 0.0 if waiting else left_s, None if waiting else limit)
                now = time.monotonic()
                if links.emptied:
                    self._emptied_at = now
                behind = now - self._emptied_at > WAITED_S
                found = Arrivals([run for _, run in bursts])
                if not (waiting or behind) and len(found) <= limit:
                    return found
                self._keep(bursts)
                if behind:
                    self._empty(links)
            except Exception as error:  # whatever it is, it ends reception
                self._died = True
                self._bell.set()
                raise DayfoldError(_BROKEN) from error
            return self._handover.take(limit, 0.0)

    def _look(self, links: Links, left_s: float, in_all: int | None) -> list[Burst]:
        """What the sockets give now, waiting up to so long for the first message.

        One burst from each, or smaller ones that are `in_all` messages together.
        """
        ready = links.poll(math.ceil(1000 * min(left_s, links.due_s())) if left_s > 0 else 0)
        with self._lock:
            changed, wanted = self._changed, self._wanted
            self._changed = False
            if self._wake_fd is not None and self._wake_fd in ready and not self._stopping:
                os.eventfd_read(self._wake_fd)
        # Before the reading: what a socket that closes still held comes after what it gave before.
        links.settle(wanted, changed=changed)
        if in_all is None:
            return links.read(ready, BURST_MESSAGES)
        return links.read(ready, max(1, in_all // max(1, len(ready))))

    def _keep(self, bursts: list[Burst]) -> None:
        for lane, run in bursts:
            self._handover.put(lane, run)

    def _empty(self, links: Links) -> None:
        """Move all that waits into the handover; bounded, because a flood never pauses."""
        for _ in range(LAST_BURSTS):
            bursts = self._look(links, 0.0, None)
            self._keep(bursts)
            if links.emptied:
                break
        self._emptied_at = time.monotonic()

    @property
    def drained(self) -> bool:
        """Whether the subscriber has stopped and all that it received is taken."""
        return self._handover.drained

    @property
    def alive(self) -> bool:
        """Whether the thread that stands by runs."""
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
        return [] if self._links is None else self._links.facts(retired=retired)

    def _wake(self) -> None:
        """End a taker's waiting, and the other thread's. The caller holds the lock."""
        if self._wake_fd is not None:
            os.eventfd_write(self._wake_fd, 1)
        self._bell.set()

    def _run(self) -> None:
        assert self._links is not None  # noqa: S101 - `start` made them before this thread
        regular = False
        try:
            self._stand_by(self._links)
            with self._sockets:
                for _ in range(LAST_BURSTS):
                    if not self._died and not self._relieve(self._links):
                        break
            regular = True
        finally:
            self._died = self._died or not regular
            try:
                with self._sockets:
                    self._links.close()
            finally:
                self._handover.close()

    def _stand_by(self, links: Links) -> None:
        """Read the sockets whenever the taker has not looked at them since the last time."""
        looks = -1
        while not (self._stopping or self._died):
            # It counts its looks before it has the sockets, so it never waits long for them.
            while self._looks == looks and self._sockets.acquire(blocking=False):
                try:
                    if not self._relieve(links) or self._stopping:
                        break
                finally:
                    self._sockets.release()
            looks = self._looks
            self._bell.wait(AWAY_S)
            self._bell.clear()

    def _relieve(self, links: Links) -> bool:
        """Move one burst from every socket into the handover. False if there was nothing."""
        bursts = self._look(links, 0.0, None)
        self._keep(bursts)
        return bool(bursts)


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
