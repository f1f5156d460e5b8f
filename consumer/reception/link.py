"""One detector's SUB socket with its monitor, and the record of how that link has been.

A `Link` holds ZeroMQ sockets and belongs to whoever reads them. A `LinkRecord` holds numbers, is
written by that thread and read by anyone; it outlives its link, so that a detector that leaves and
returns goes on counting.
"""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

import structlog
import zmq

from consumer import columns
from consumer.reception.endpoints import Endpoint, has_literal_ipv6
from consumer.reception.handover import Lane

log = structlog.get_logger("subscriber")

GAP_WINDOWS: Final = 100
#: Asked of the kernel for each detector, which gives twice as much; and what is not worth asking for.
KERNEL_BUFFER: Final = 4 * 1024 * 1024
LEAST_BUFFER: Final = 2 * 1024 * 1024
_MS: Final = 1_000_000
# ZMTP carries the time to live in 16 bits of tenths of a second.
_LONGEST_TTL_MS: Final = 6_553_500
_EVENT: Final = struct.Struct("=HI")
_PROTOCOL_ERRORS: Final = {
    int(getattr(zmq, name)): name.removeprefix("PROTOCOL_ERROR_")
    for name in dir(zmq)
    if name.startswith("PROTOCOL_ERROR_")
}
_WATCHED: Final = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """How every link is set up. Times in milliseconds, sizes in bytes, keys in Z85."""

    heartbeat_ivl_ms: int
    heartbeat_timeout_ms: int
    reconnect_ivl_ms: int
    reconnect_ivl_max_ms: int
    max_message_bytes: int
    curve_public: str
    curve_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class DetectorLink:
    """How the link to one detector is. A copy; it does not change.

    Attributes:
        connected: whether the ZeroMQ handshake is through and the heartbeat answers.
        since_ns: since when it has been so (UTC ns); before the first connection, since the
            endpoint was set.
        received: single-part messages read off the socket, `dropped` ones included.
        received_bytes: their bytes.
        dropped: messages that a full handover dropped. With counter nonces these show up once
            more as lost in the `LossLedger`: lost on the wire is that figure less this one.
        malformed: multi-part messages, dropped: the wire has single parts only.
        oversize: messages above the size limit, dropped.
        handshake_failures: refused or failed ZeroMQ and CURVE handshakes.
        gap_windows: the last 100 spans (UTC ns) without a connection, oldest first. Nothing is
            missing before the start of a span, which is the last sign of life, not the moment
            when the silence was noticed.
        gaps_total: spans since the start; a span counts when it ends.
        last_arrival_ns: arrival of the last message; None if there was none.
        fault: why there is no connection, as far as it is known; None while connected.
        retired: the endpoint was taken away; kept so that its counts stay.
    """

    detector: str
    address: str
    connected: bool
    since_ns: int
    received: int
    received_bytes: int
    dropped: int
    malformed: int
    oversize: int
    handshake_failures: int
    gap_windows: tuple[tuple[int, int], ...]
    gaps_total: int
    last_arrival_ns: int | None
    fault: str | None
    retired: bool


class LinkRecord:
    """The numbers of one link. Written by whoever has the sockets, except for its lane's."""

    __slots__ = (
        "address",
        "connected",
        "detector",
        "fault",
        "gap_from_ns",
        "gap_windows",
        "gaps_total",
        "handshake_failures",
        "lane",
        "last_arrival_ns",
        "malformed",
        "oversize",
        "received",
        "received_bytes",
        "reopened",
        "retired",
        "since_ns",
    )

    def __init__(self, endpoint: Endpoint, lane: Lane, now_ns: int) -> None:
        self.detector = endpoint.detector
        self.address = endpoint.address
        self.lane = lane
        self.since_ns = now_ns
        self.connected = False
        self.retired = False
        self.received = 0
        self.received_bytes = 0
        self.malformed = 0
        self.oversize = 0
        self.handshake_failures = 0
        # Sockets made anew in a row since the last connection.
        self.reopened = 0
        self.gaps_total = 0
        self.gap_windows: tuple[tuple[int, int], ...] = ()
        self.gap_from_ns: int | None = None
        self.last_arrival_ns: int | None = None
        self.fault: str | None = None

    def note_burst(self, messages: list[bytes], now_ns: int) -> None:
        """Count what one burst brought."""
        self.received += len(messages)
        self.received_bytes += sum(map(len, messages))
        self.last_arrival_ns = now_ns

    def note_connected(self, now_ns: int) -> None:
        """The handshake is through: a gap that was open ends."""
        if self.connected:
            return
        self.connected = True
        self.since_ns = now_ns
        self.fault = None
        self.reopened = 0
        if self.gap_from_ns is not None:
            window = (self.gap_from_ns, max(now_ns, self.gap_from_ns))
            # A new tuple each time: a reader in another thread never sees one half changed.
            self.gap_windows = (*self.gap_windows[1 - GAP_WINDOWS :], window)
            self.gaps_total += 1
            self.gap_from_ns = None

    def note_lost(self, now_ns: int, silence_ns: int) -> None:
        """The connection is gone; it may have been silent for `silence_ns` before that showed."""
        if not self.connected:
            return
        self.gap_from_ns = max(self.since_ns, self.last_arrival_ns or 0, now_ns - silence_ns)
        self.connected = False
        self.since_ns = now_ns
        self.fault = "connection lost"

    def facts(self) -> DetectorLink:
        """A copy for readers."""
        return DetectorLink(
            detector=self.detector,
            address=self.address,
            connected=self.connected,
            since_ns=self.since_ns,
            received=self.received,
            received_bytes=self.received_bytes,
            dropped=self.lane.dropped,
            malformed=self.malformed,
            oversize=self.oversize,
            handshake_failures=self.handshake_failures,
            gap_windows=self.gap_windows,
            gaps_total=self.gaps_total,
            last_arrival_ns=self.last_arrival_ns,
            fault=self.fault,
            retired=self.retired,
        )


@cache
def kernel_buffer(limit: Path = Path("/proc/sys/net/core/rmem_max")) -> int | None:
    """Bytes to ask of the kernel for what one detector sent and nobody fetched; None to let it choose.

    By itself it chose 2 to 3 MB at 40,000 events/s, a thirtieth of a second, although it may take far more. Asked,
    it gives at most twice the number in the file `limit`: where that is small, its own choice is larger.
    """
    try:
        most = int(limit.read_text())
    except (OSError, ValueError):
        return None
    return min(most, KERNEL_BUFFER) if most >= LEAST_BUFFER else None


class Link:
    """A connected SUB socket and its monitor.

    Attributes:
        abandoned: ZeroMQ has given this connection up. It connects again by itself after a loss,
            but not after what it takes for a breach of protocol (a refused key, a message far
            above the size limit, a peer that is no ZeroMQ): then a new socket is needed.
        emptied: whether the last burst left nothing in the socket.

    Raises:
        zmq.ZMQError: the sockets cannot be made; what was opened is closed again.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: Endpoint, options: LinkOptions
    ) -> None:
        self.endpoint = endpoint
        self.abandoned = False
        self.emptied = True
        self._options = options
        self._silence_ns = (options.heartbeat_ivl_ms + options.heartbeat_timeout_ms) * _MS
        self.socket = context.socket(zmq.SUB)
        self.monitor: zmq.Socket[bytes] | None = None
        try:
            self._set_up()
            self.monitor = self.socket.get_monitor_socket(_WATCHED)
            self.socket.connect(endpoint.address)
        except zmq.ZMQError:
            self.close()
            raise

    def _set_up(self) -> None:
        socket, options = self.socket, self._options
        socket.setsockopt(zmq.LINGER, 0)
        # No limit inside ZeroMQ: the one that counts is the handover's, in bytes, and nothing waits
        # here for long. A queue at its high-water mark would stop the heartbeat from being heard,
        # and libzmq 4.3.5 aborts the process if the connection is lost while it is full.
        socket.setsockopt(zmq.RCVHWM, 0)
        buffer = kernel_buffer()
        if buffer is not None:
            socket.setsockopt(zmq.RCVBUF, buffer)
        # Above the limit that is counted, so that an oversize message is dropped here and only a
        # far larger one costs the connection.
        socket.setsockopt(zmq.MAXMSGSIZE, 2 * options.max_message_bytes)
        socket.setsockopt(zmq.HEARTBEAT_IVL, options.heartbeat_ivl_ms)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, options.heartbeat_timeout_ms)
        silence_ms = options.heartbeat_ivl_ms + options.heartbeat_timeout_ms
        socket.setsockopt(zmq.HEARTBEAT_TTL, min(silence_ms, _LONGEST_TTL_MS))
        # A host that accepts and then says nothing, or swallows every packet, is given up as well.
        socket.setsockopt(zmq.HANDSHAKE_IVL, options.heartbeat_timeout_ms)
        socket.setsockopt(zmq.CONNECT_TIMEOUT, options.reconnect_ivl_max_ms)
        socket.setsockopt(zmq.RECONNECT_IVL, options.reconnect_ivl_ms)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, options.reconnect_ivl_max_ms)
        # Only for literal addresses: with it on, ZeroMQ would look up names as IPv6 first and
        # stop at a first answer on which the detector does not listen.
        socket.setsockopt(zmq.IPV6, int(has_literal_ipv6(self.endpoint.address)))
        if self.endpoint.curve_server_key is not None:
            socket.setsockopt_string(zmq.CURVE_SERVERKEY, self.endpoint.curve_server_key)
            socket.setsockopt_string(zmq.CURVE_PUBLICKEY, options.curve_public)
            socket.setsockopt_string(zmq.CURVE_SECRETKEY, options.curve_secret)
        socket.setsockopt(zmq.SUBSCRIBE, b"")

    def burst(self, record: LinkRecord, most: int, most_bytes: int) -> list[bytes]:
        """Read what is there, up to `most` messages or about `most_bytes`; never waits."""
        compiled = columns.compiled()
        if compiled is None:
            return self._burst(record, most, most_bytes)
        if self.socket.closed:
            raise zmq.ZMQError(errno.ENOTSOCK)
        messages, malformed, oversize, ended_by = compiled.receive(
            self.socket.underlying, most, most_bytes, self._options.max_message_bytes
        )
        record.malformed += malformed
        record.oversize += oversize
        self.emptied = ended_by == errno.EAGAIN
        if ended_by and not self.emptied and not messages:
            raise zmq.ZMQError(ended_by)
        return messages

    def _burst(self, record: LinkRecord, most: int, most_bytes: int) -> list[bytes]:
        messages: list[bytes] = []
        receive = self.socket.recv
        largest = self._options.max_message_bytes
        room = most_bytes
        self.emptied = False
        try:
            for _ in range(most):
                # As a frame: asking it for more parts costs half of asking the socket.
                frame = receive(zmq.NOBLOCK, copy=False)
                if frame.more:
                    record.malformed += 1
                    self._skip_parts()
                    continue
                size = len(frame)
                if size > largest:
                    record.oversize += 1
                    continue
                messages.append(frame.bytes)
                room -= size
                if room <= 0:
                    break
        except zmq.Again:
            self.emptied = True
        return messages

    def discard(self, record: LinkRecord, most: int) -> int:
        """Read up to `most` messages and throw them away, at a third of the cost; how many."""
        receive = self.socket.recv
        count = size = 0
        self.emptied = False
        try:
            for _ in range(most):
                frame = receive(zmq.NOBLOCK, copy=False)
                if frame.more:
                    record.malformed += 1
                    self._skip_parts()
                    continue
                count += 1
                size += len(frame)
        except zmq.Again:
            self.emptied = True
        record.received += count
        record.received_bytes += size
        return count

    def _skip_parts(self) -> None:
        # ZeroMQ delivers the parts of a message together, so none of these can be missing.
        while self.socket.recv(zmq.NOBLOCK, copy=False).more:
            pass

    def watch(self, record: LinkRecord, now_ns: int) -> None:
        """Read the monitor and bring the record up to date; never waits."""
        if self.monitor is None:
            return
        while True:
            try:
                head, _ = self.monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            event, value = _EVENT.unpack(head)
            # A try to connect again is announced right after the loss, if there is to be one.
            self.abandoned = event not in (zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_CONNECT_RETRIED)
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                record.note_connected(now_ns)
                tell("info", "detector connected", self.endpoint)
            elif event == zmq.EVENT_DISCONNECTED:
                if record.connected:
                    tell("warning", "detector connection lost", self.endpoint)
                record.note_lost(now_ns, self._silence_ns)
            elif event != zmq.EVENT_CONNECT_RETRIED:
                self._note_failure(record, _failure(event, value))

    def _note_failure(self, record: LinkRecord, reason: str) -> None:
        record.handshake_failures += 1
        record.fault = f"handshake failed: {reason}"
        # Each try to connect can fail; one line per doubling keeps the log readable.
        if record.handshake_failures.bit_count() == 1:
            failures = record.handshake_failures
            tell(
                "warning",
                "detector handshake failed",
                self.endpoint,
                reason=reason,
                failures=failures,
            )

    def close(self) -> None:
        """Close the monitor, then the socket. The context may only go after both."""
        if self.monitor is not None:
            self.socket.disable_monitor()
            self.monitor.close(linger=0)
            self.monitor = None
        self.socket.close(linger=0)


def tell(level: str, happening: str, endpoint: Endpoint, **facts: object) -> None:
    """Log what became of a link. A log that cannot be written does not end reception."""
    with suppress(OSError, ValueError):
        getattr(log, level)(
            happening, detector=endpoint.detector, address=endpoint.address, **facts
        )


def _failure(event: int, value: int) -> str:
    """Why a handshake failed, in words, from the monitor's event and its value."""
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return f"the detector does not admit our CURVE key (status {value})"
    if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
        name = _PROTOCOL_ERRORS.get(value, f"{value:#x}")
        return f"protocol or CURVE key mismatch ({name})"
    # A detector that cannot open our first CURVE message just closes the connection.
    return f"the detector hung up or did not answer; check the CURVE keys ({os.strerror(value)})"
