"""The router of the second network, and its sniffer: every packet passes through this process.

Each host's namespace has one TUN device whose other end is here. A packet is held for the delay of
its sender's link, then recorded, as a sniffer at the gateway would see it, then held for the
delay of its receiver's link and delivered.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.second_network.hosts import Host

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
DEVICE = "uplink"
MTU = 1500
# A link holds back no more than this; what would wait longer is dropped.
LONGEST_QUEUE_S = 0.25
PACKET = np.dtype(
    [
        ("time_us", "<i8"), ("source", "<u4"), ("destination", "<u4"), ("source_port", "<u2"),
        ("destination_port", "<u2"), ("payload", "<u2"), ("header", "<u2"), ("protocol", "u1"),
        ("flags", "u1"),
    ]
)  # fmt: skip
RECORD = struct.Struct("<qIIHHHHBB")
TCP, UDP = 6, 17

Packets = NDArray[np.void]


def open_uplink(host: Host, namespace: str) -> int:
    """The gateway's end of a host's only device, which is set up on the way.

    Raises:
        OSError: not root, no such namespace, or no TUN devices on this machine.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace {namespace}")
        uplink = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        wish = struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI)
        fcntl.ioctl(uplink, TUNSETIFF, wish)
        for line in (
            "link set lo up",
            f"addr add {host.address}/32 dev {DEVICE}",
            f"link set {DEVICE} up mtu {MTU} txqueuelen 1000",
            f"route add default dev {DEVICE} src {host.address}",
        ):
            subprocess.run(["/sbin/ip", *line.split()], check=True)
        Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    finally:
        libc.setns(home, CLONE_NEWNET)
        os.close(there)
        os.close(home)
    return uplink


def header_of(packet: bytes) -> tuple[int, int, int, int, int, int, int, int] | None:
    """Source, destination, ports, payload and header length, protocol and flags; None if not TCP or UDP over IPv4.

    The header counted is that of TCP or UDP, in bytes; addresses are numbers.
    """
    if len(packet) < 28 or packet[0] >> 4 != 4:
        return None
    start, protocol = (packet[0] & 15) * 4, packet[9]
    source, destination = struct.unpack_from(">II", packet, 12)
    if protocol not in (TCP, UDP):
        return None
    ports = struct.unpack_from(">HH", packet, start)
    if protocol == UDP:
        return source, destination, *ports, len(packet) - start - 8, 8, protocol, 0
    header = (packet[start + 12] >> 4) * 4
    payload = len(packet) - start - header
    return source, destination, *ports, payload, header, protocol, packet[start + 13]


class Gateway:
    """Moves packets between hosts until it is told to stop, and keeps a record of each.

    `clock` gives seconds; `rng` decides jitter and loss.
    """

    def __init__(
        self, uplinks: dict[int, Host], clock: Callable[[], float], rng: random.Random
    ) -> None:
        self._uplinks = uplinks
        self._ends = {
            struct.unpack(">I", socket.inet_aton(host.address))[0]: (end, host)
            for end, host in uplinks.items()
        }
        # By address and way: when the link is free again, and when its last packet arrives.
        self._free: dict[tuple[str, int], tuple[float, float]] = {}
        self._clock, self._rng = clock, rng
        self._record = bytearray()
        self._due: list[tuple[float, int, int | None, bytes]] = []
        self._number = 0

    def run_until(self, stop: Callable[[], bool]) -> None:
        """Forward packets until `stop()` is true; it is asked twice a second at least."""
        ends = list(self._uplinks)
        while not stop():
            wait = max(0.0, self._due[0][0] - self._clock()) if self._due else 0.5
            for end in select.select(ends, [], [], min(wait, 0.5))[0]:
                self._drain(end)
            now = self._clock()
            while self._due and self._due[0][0] <= now:
                at, _, receiver, packet = heapq.heappop(self._due)
                if receiver is None:
                    self._pass(at, packet)
                else:
                    # A host whose queue is full loses a packet, as anywhere.
                    with contextlib.suppress(OSError):
                        os.write(receiver, packet)

    def _drain(self, end: int) -> None:
        host = self._uplinks[end]
        for _ in range(64):
            try:
                packet = os.read(end, 65536)
            except BlockingIOError:
                return
            self._push(self._crossed(host, len(packet), self._clock(), 0), None, packet)

    def _push(self, at: float | None, receiver: int | None, packet: bytes) -> None:
        if at is not None:
            self._number += 1
            heapq.heappush(self._due, (at, self._number, receiver, packet))

    def _crossed(self, host: Host, size: int, now: float, way: int) -> float | None:
        """When a packet is through the host's link (`way` 0: from it, 1: to it); None if it is lost."""
        free, last = self._free.get((host.address, way), (0.0, 0.0))
        began = max(now, free)
        if began - now > LONGEST_QUEUE_S or self._rng.random() < host.loss:
            return None
        gone = began + size / host.rate
        # Jitter never lets one packet overtake another.
        arrives = max(last, gone + host.delay_s + self._rng.random() * host.jitter_s)
        self._free[host.address, way] = (gone, arrives)
        return arrives

    def _pass(self, at: float, packet: bytes) -> None:
        found = header_of(packet)
        if found:
            source, destination, *rest = found
            self._record += RECORD.pack(int(at * 1e6), source, destination, *rest)
        receiver = self._ends.get(struct.unpack_from(">I", packet, 16)[0])
        if receiver:
            end, host = receiver
            self._push(self._crossed(host, len(packet), at, 1), end, packet)

    def packets(self) -> Packets:
        """All that was recorded, in order of time, of dtype `PACKET`."""
        found = np.frombuffer(bytes(self._record), dtype=PACKET)
        return found[np.argsort(found["time_us"], kind="stable")]


def wall_clock() -> float:
    """Seconds since 1970, from a clock that does not jump within a run."""
    return _EPOCH + time.monotonic()


_EPOCH = time.time() - time.monotonic()
