"""A subscriber with short heartbeats on real sockets, and ways to wait for what it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from consumer.clock import Clock, SystemClock
from consumer.reception.endpoints import Endpoint
from consumer.reception.handover import MESSAGE_OVERHEAD
from consumer.reception.link import DetectorLink
from consumer.reception.links import MIB
from consumer.reception.sources import Arrival
from consumer.reception.subscriber import Subscriber

WAIT_S = 15.0


@contextmanager
def subscribed(
    *endpoints: Endpoint,
    clock: Clock | None = None,
    handover_bytes: int = 64 * MIB,
    heartbeat_ivl_ms: int = 100,
    heartbeat_timeout_ms: int = 400,
    grace_s: float = 0.0,
    max_message_bytes: int = 32 * MIB,
    curve_public: str | None = None,
    curve_secret: str | None = None,
) -> Iterator[Subscriber]:
    subscriber = Subscriber(
        clock or SystemClock(),
        handover_bytes=handover_bytes,
        heartbeat_ivl_ms=heartbeat_ivl_ms,
        heartbeat_timeout_ms=heartbeat_timeout_ms,
        reconnect_ivl_ms=20,
        reconnect_ivl_max_ms=200,
        grace_s=grace_s,
        max_message_bytes=max_message_bytes,
        curve_public=curve_public,
        curve_secret=curve_secret,
    )
    with subscriber:
        subscriber.set_endpoints(endpoints)
        yield subscriber


def link(subscriber: Subscriber, detector: str = "a") -> DetectorLink:
    links = [facts for facts in subscriber.facts(retired=True) if facts.detector == detector]
    assert len(links) == 1, f"links of {detector}: {links}"
    return links[0]


def leaving(subscriber: Subscriber) -> dict[tuple[str, str], float]:
    """When endpoints that were taken away are disconnected."""
    assert subscriber._links is not None
    return subscriber._links.leave_at


def wait_until(told: str, holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end, f"waited in vain: {told}"
        time.sleep(0.01)


def wait_connected(subscriber: Subscriber, detector: str = "a", *, connected: bool = True) -> None:
    def holds() -> bool:
        facts = subscriber.facts(retired=True)
        return [f.connected for f in facts if f.detector == detector] == [connected]

    wait_until(f"{detector} connected={connected}", holds)


def wait_received(subscriber: Subscriber, count: int, detector: str = "a") -> None:
    wait_until(
        f"{count} messages from {detector}", lambda: link(subscriber, detector).received >= count
    )


def wait_held(subscriber: Subscriber, count: int, size: int = 64) -> None:
    """Wait until so many messages can be taken; being counted as received comes a little before."""
    held = count * (size + MESSAGE_OVERHEAD)
    wait_until(f"{count} messages held", lambda: subscriber.held_bytes == held)


def take(subscriber: Subscriber, count: int, detector: str = "a") -> list[Arrival]:
    """Take until so many of one detector have come; those of others are taken and dropped."""
    taken: list[Arrival] = []
    end = time.monotonic() + WAIT_S
    while len(taken) < count:
        assert time.monotonic() < end, f"only {len(taken)} of {count} messages of {detector} came"
        taken += [
            arrival for arrival in subscriber.take(1_000, 0.5) if arrival.detector == detector
        ]
    return taken
