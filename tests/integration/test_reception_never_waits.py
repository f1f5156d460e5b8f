"""Reception goes on whatever holds up the thread that takes: a disk, a slow append, a long retry."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

from consumer.clock import SystemClock
from consumer.journal import Journal
from consumer.quarantine.quarantine import Quarantine
from consumer.reception.endpoints import Endpoint
from consumer.reception.intake import Intake
from consumer.reception.links import MIB
from consumer.reception.subscriber import Subscriber
from consumer.replay.seal import Sealer
from consumer.wire.admission import Admission
from consumer.wire.envelope import Envelope
from consumer.wire.keys import KeyRing, key_from_seed
from consumer.wire.losses import LossLedger
from proto.network_security_pb2 import NetworkSecurityEvent
from tests.integration.publishing import Publisher, counter_of
from tests.integration.reception import WAIT_S, link, subscribed, take, wait_connected, wait_until

KEY = key_from_seed("k", bytes(32))  # a test key


class SlowDisk:
    """Writes to a segment, once it is let."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.reached = threading.Event()

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self.reached.set()
        assert self.free.wait(WAIT_S)
        return os.write(fd, data)


@contextmanager
def receiving(
    folder: Path, disk: SlowDisk, subscriber: Subscriber
) -> Iterator[tuple[Intake, Journal]]:
    """Subscriber to journal, on a disk that can be held up."""

    def give_up(error: Exception) -> None:
        raise AssertionError(error)

    clock = SystemClock()
    journal = Journal(
        folder / "journal", zone=ZoneInfo("UTC"), clock=clock, on_fatal=give_up, write=disk.write
    )
    journal.start()
    ring = KeyRing(clock, [KEY])
    intake = Intake(
        subscriber,
        ring,
        Envelope(ring),
        Admission(ZoneInfo("UTC")),
        journal,
        Quarantine(folder / "quarantine", clock, max_bytes=MIB, max_age_days=1),
        LossLedger(),
        room=lambda: True,
        on_fatal=give_up,
    )
    intake.start()
    try:
        yield intake, journal
    finally:
        disk.free.set()
        subscriber.stop()
        assert intake.stop(WAIT_S)
        journal.stop()


def sender(publisher: Publisher, detector: str) -> Callable[[int], None]:
    sealer = Sealer(KEY)

    def send(count: int) -> None:
        for _ in range(count):
            event = NetworkSecurityEvent(
                event_id=f"{detector}-{sealer.counter}", originating_node_id=detector
            )
            event.event_timestamp.FromNanoseconds(time.time_ns())
            event.custom_metadata["notes"] = os.urandom(512).hex()
            publisher.socket.send(sealer.seal(event.SerializeToString()))

    return send


def test_a_journal_that_stalls_holds_up_nobody_and_the_detector_that_floods_pays(
    tmp_path: Path,
) -> None:
    disk = SlowDisk()
    with (
        Publisher(hwm=0) as loud,
        Publisher(hwm=0) as quiet,
        subscribed(
            Endpoint("loud", loud.address),
            Endpoint("quiet", quiet.address),
            handover_bytes=MIB,
            heartbeat_ivl_ms=2_000,
            heartbeat_timeout_ms=6_000,
        ) as subscriber,
        receiving(tmp_path, disk, subscriber) as (intake, journal),
    ):
        for publisher in (loud, quiet):
            publisher.wait_for_subscribers()
        flood, trickle = sender(loud, "loud"), sender(quiet, "quiet")
        disk.reached.clear()
        disk.free.clear()
        trickle(1)
        assert disk.reached.wait(WAIT_S)

        # The intake stands in its write. All that comes is fetched, kept as far as there is room.
        flood(3_000)
        trickle(50)
        wait_until("the flood is fetched", lambda: link(subscriber, "loud").received == 3_000)
        wait_until("the trickle, too", lambda: link(subscriber, "quiet").received == 51)
        assert intake.counts.journaled == 0
        assert link(subscriber, "quiet").dropped == 0
        dropped = link(subscriber, "loud").dropped
        assert 0 < dropped < 3_000

        disk.free.set()
        wait_until(
            "the rest is journaled",
            lambda: intake.counts.journaled == 3_000 - dropped + 51,
        )
        assert journal.appended_events == intake.counts.received == 3_051 - dropped
        assert intake.losses.facts("quiet").lost == 0


def test_messages_stay_in_order_whoever_fetched_them() -> None:
    with Publisher(hwm=0) as publisher, subscribed(Endpoint("a", publisher.address)) as subscriber:
        publisher.wait_for_subscribers()
        wait_connected(subscriber)
        counters: list[int] = []
        for turn in range(6):
            publisher.send(700)
            if turn % 2:
                # The taker is away: the other thread fetches.
                wait_until("it is fetched", lambda: subscriber.held_bytes > 0)
            counters += [counter_of(arrival.message) for arrival in take(subscriber, 300)]
        while len(counters) < 6 * 700:
            counters += [counter_of(arrival.message) for arrival in take(subscriber, 1)]
        assert counters == list(range(6 * 700))
