"""Every detector's socket: opened and closed as endpoints come and go, and read in turns."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final

import zmq

from consumer.clock import Clock
from consumer.errors import ConfigurationError
from consumer.reception.endpoints import Endpoint, check_endpoint
from consumer.reception.handover import Handover, Lane
from consumer.reception.link import DetectorLink, Link, LinkOptions, LinkRecord, tell
from consumer.reception.sources import Run
from consumer.time_slice import SHORTEST_NS, set_slice, slice_of

MIB: Final = 1024 * 1024
BURST_MESSAGES: Final = 256
BURST_BYTES: Final = 4 * MIB
DISCARDED_AT_ONCE: Final = 1024
RETIRED_RECORDS: Final = 256
#: Endpoints that were taken away and stay connected for the grace time. ZeroMQ has room for some 340
#: links in all; a registry whose entries change all the time must not fill it with the dead.
MOST_LEAVING: Final = 32
LAST_BURSTS: Final = 100
IDLE_S: Final = 1.0
_REOPEN_S: Final = 10.0


#: Detector and address.
Name = tuple[str, str]
#: What one socket gave, and the lane of its detector.
Burst = tuple[Lane, Run]


class Links:
    """The sockets and their records. One thread at a time, `facts` from any.

    Args:
        options: how each socket is set up.
        grace_s: seconds for which an endpoint that was taken away stays connected; of more than
            `MOST_LEAVING` such endpoints the oldest are disconnected at once.
        handover: makes the lanes, and takes what is left in a socket that closes.
        wake_fd: becomes readable to end a `poll`.
    """

    def __init__(
        self,
        clock: Clock,
        options: LinkOptions,
        *,
        grace_s: float,
        handover: Handover,
        wake_fd: int,
    ) -> None:
        #: Whether the last `read` left nothing in any socket.
        self.emptied = True
        #: When endpoints that were taken away are disconnected, monotonic seconds.
        self.leave_at: dict[Name, float] = {}
        self._clock = clock
        self._options = options
        self._grace_s = grace_s
        self._handover = handover
        self._context = _context()
        self._poller = zmq.Poller()
        self._poller.register(wake_fd, zmq.POLLIN)
        self._links: dict[Name, Link] = {}
        self._reopen_at: dict[Name, float] = {}
        self._unsettled = False
        # Guards what `facts` reads from other threads.
        self._lock = threading.Lock()
        self._records: dict[Name, LinkRecord] = {}

    def poll(self, timeout_ms: int) -> dict[object, int]:
        """What has something to read, waiting up to so long for the first."""
        return dict(self._poller.poll(timeout_ms))

    def due_s(self) -> float:
        """Seconds until `settle` has something to do by itself, at most `IDLE_S`."""
        now = self._clock.monotonic()
        due = min([*self.leave_at.values(), *self._reopen_at.values()], default=now + IDLE_S)
        return min(max(due - now, 0.0), IDLE_S)

    def read(self, ready: Mapping[object, int], most: int) -> list[Burst]:
        """Up to `most` messages, or about `BURST_BYTES`, from each socket that is ready.

        Those of a detector whose lane pays for a full handover are dropped right here.
        """
        found: list[Burst] = []
        self.emptied = True
        for name, link in list(self._links.items()):
            # First the monitor: whoever takes a message finds its detector connected.
            if link.monitor in ready:
                link.watch(self._records[name], self._clock.now_ns())
                self._unsettled = True
            if link.socket in ready:
                run = self._burst(name, link, most)
                if run is not None:
                    found.append((self._records[name].lane, run))
                self.emptied = self.emptied and link.emptied
        return found

    def _burst(self, name: Name, link: Link, most: int) -> Run | None:
        record = self._records[name]
        if self._handover.would_drop(record.lane):
            # Not to lose the time for what can be kept on what cannot.
            self._handover.drop(record.lane, link.discard(record, DISCARDED_AT_ONCE))
            record.last_arrival_ns = self._clock.now_ns()
            return None
        messages = link.burst(record, most, BURST_BYTES)
        if not messages:
            return None
        now_ns = self._clock.now_ns()
        record.note_burst(messages, now_ns)
        return Run(record.detector, [now_ns] * len(messages), messages)

    def settle(self, wanted: Mapping[Name, Endpoint], *, changed: bool) -> None:
        """Make the links what is wanted: open, let go after the grace time, take back, renew.

        Cheap while there is nothing to do. `changed` says that `wanted` was set anew.
        """
        now = self._clock.monotonic()
        if changed:
            # One that could not be opened may be right by now.
            for name in self._reopen_at.keys() - self._links.keys():
                del self._reopen_at[name]
        elif not self._unsettled and self.due_s() > 0:
            return
        self._unsettled = False
        for name, link in list(self._links.items()):
            self._settle_link(name, link, wanted.get(name), now)
        leaving = [name for name in self.leave_at if name in self._links and name not in wanted]
        for name in leaving[:-MOST_LEAVING]:
            self._close(name, self._links[name], "endpoint taken away")
        self._forget_unwanted(wanted)
        for name, endpoint in wanted.items():
            self.leave_at.pop(name, None)
            if name not in self._links and self._reopen_at.get(name, now) <= now:
                self._open(name, endpoint, now)

    def _settle_link(self, name: Name, link: Link, endpoint: Endpoint | None, now: float) -> None:
        if endpoint is None:
            self._reopen_at.pop(name, None)
            if self.leave_at.setdefault(name, now + self._grace_s) <= now:
                self._close(name, link, "endpoint taken away")
        elif endpoint != link.endpoint:
            self._reopen_at.pop(name, None)
            self._close(name, link, "CURVE key changed")
        elif not link.abandoned:
            self._reopen_at.pop(name, None)
        elif self._reopen_at.setdefault(name, now + self._pause_s(name)) <= now:
            self._records[name].reopened += 1
            self._take_down(name, link)

    def _pause_s(self, name: Name) -> float:
        """How long to wait before a socket is made anew: doubling, as ZeroMQ's own pauses do."""
        first, longest = self._options.reconnect_ivl_ms, self._options.reconnect_ivl_max_ms
        return min(longest, first * 2.0 ** min(self._records[name].reopened, 32)) / 1000

    def _open(self, name: Name, endpoint: Endpoint, now: float) -> None:
        record = self._record(name, endpoint)
        try:
            check_endpoint(endpoint)
            link = Link(self._context, endpoint, self._options)
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

    def _take_down(self, name: Name, link: Link) -> None:
        """Close the sockets, after reading what is left in them."""
        for _ in range(LAST_BURSTS):
            run = self._burst(name, link, BURST_MESSAGES)
            if run is None:
                break
            self._handover.put(self._records[name].lane, run)
        self._poller.unregister(link.socket)
        if link.monitor is not None:
            self._poller.unregister(link.monitor)
        link.close()
        del self._links[name]

    def _close(self, name: Name, link: Link, reason: str) -> None:
        self._take_down(name, link)
        record = self._records[name]
        record.note_lost(self._clock.now_ns(), 0)
        record.fault = reason
        tell("info", "detector disconnected", link.endpoint, reason=reason)

    def close(self) -> None:
        """Close every socket and the context; what they hold is gone."""
        for link in self._links.values():
            link.close()
        # By now every socket should be closed; one that is not would hold this up for ever.
        self._context.destroy(linger=0)

    def facts(self, *, retired: bool) -> list[DetectorLink]:
        """How each link is, by detector and address. Safe from any thread."""
        with self._lock:
            records = list(self._records.values())
        listed = [record.facts() for record in records if retired or not record.retired]
        return sorted(listed, key=lambda link: (link.detector, link.address))

    def _record(self, name: Name, endpoint: Endpoint) -> LinkRecord:
        with self._lock:
            if name not in self._records:
                self._records[name] = LinkRecord(
                    endpoint, self._handover.lane(), self._clock.now_ns()
                )
            record = self._records[name]
            record.retired = False
            return record

    def _forget_unwanted(self, wanted: Mapping[Name, Endpoint]) -> None:
        """Retire the records of closed links, newest last, and keep a bounded number of them."""
        with self._lock:
            for name in self._records.keys() - wanted.keys() - self._links.keys():
                if not self._records[name].retired:
                    record = self._records.pop(name)
                    record.retired = True
                    self._records[name] = record
                self.leave_at.pop(name, None)
                self._reopen_at.pop(name, None)
            retired = [name for name, record in self._records.items() if record.retired]
            for name in retired[: max(0, len(retired) - RETIRED_RECORDS)]:
                del self._records[name]


def _context() -> zmq.Context[zmq.Socket[bytes]]:
    """A context whose I/O thread takes the core at once when the network has something for it.

    It needs little, while the thread that opens messages needs much. What it does not fetch fills the
    kernel's buffer, then the detector's queue, and then the detector drops.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    usual = slice_of()
    set_slice(SHORTEST_NS)
    # The first socket starts the thread, which has the slice of the one that starts it.
    context.socket(zmq.SUB).close(linger=0)
    if usual is not None:
        set_slice(usual)
    return context
