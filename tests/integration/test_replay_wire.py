"""A replay on a real socket: a plain SUB socket receives it and the envelope opens it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from queue import Queue

import pytest
import zmq

from consumer.clock import SystemClock
from consumer.errors import UnreachableError
from consumer.replay.build_sample import SAMPLE
from consumer.replay.publisher import Publisher
from consumer.replay.recordings import read_recording
from consumer.replay.replay import Replay, ReplayOptions, ReplayReport
from consumer.replay.seal import Sealer
from consumer.wire.envelope import Envelope, Key, KeyRing, Scheme

LOOPBACK = "tcp://127.0.0.1:0"
LIMIT_S = 20.0
LARGE = 200_000

Subscribe = Callable[..., "zmq.Socket[bytes]"]
Publish = Callable[..., tuple[Publisher, str]]


class _Endpoint:
    """Hands the bound endpoint to the test."""

    def __init__(self) -> None:
        self.told: Queue[str] = Queue()

    def start(self, endpoint: str) -> None:
        self.told.put(endpoint)

    def stop(self) -> None:
        """Nothing to take back."""


@pytest.fixture
def subscribe() -> Iterator[Subscribe]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sockets = []

    def connect(endpoint: str, high_water_mark: int = 0) -> zmq.Socket[bytes]:
        socket = context.socket(zmq.SUB)
        sockets.append(socket)
        socket.setsockopt(zmq.RCVHWM, high_water_mark)
        socket.setsockopt(zmq.RCVTIMEO, int(LIMIT_S * 1000))
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.connect(endpoint)
        return socket

    yield connect
    for socket in sockets:
        socket.close(linger=0)
    context.term()


@pytest.fixture
def publish() -> Iterator[Publish]:
    publishers = []

    def bind(high_water_mark: int = 1000, *, lossy: bool = True) -> tuple[Publisher, str]:
        publisher = Publisher(SystemClock(), LOOPBACK, high_water_mark=high_water_mark, lossy=lossy)
        publishers.append(publisher)
        return publisher, publisher.start()

    yield bind
    for publisher in publishers:
        publisher.stop(0.0)


@pytest.mark.parametrize("scheme", ["chacha20poly1305-v1", "secretbox-v0"])
def test_a_plain_subscriber_receives_every_event_to_the_byte(
    subscribe: Subscribe, scheme: Scheme
) -> None:
    newer = scheme == "chacha20poly1305-v1"
    sent = [event.payload for event in read_recording(SAMPLE, limit=3000, newer=newer)]
    key = Key("wire", scheme, bytes(range(32)))
    endpoint = _Endpoint()
    options = ReplayOptions(
        SAMPLE, LOOPBACK, key, limit=len(sent), wait_for_subscribers=1, lossy=False
    )
    reports: list[ReplayReport] = []
    replay = Replay(options, SystemClock(), announcer=endpoint)
    publishing = threading.Thread(target=lambda: reports.append(replay.run()))
    publishing.start()
    subscriber = subscribe(endpoint.told.get(timeout=LIMIT_S))

    envelope = Envelope(KeyRing(SystemClock(), [key]))
    opened = [envelope.open("d", subscriber.recv()) for _ in sent]
    publishing.join()

    assert [message.payload for message in opened] == sent
    assert [report.published for report in reports] == [len(sent)]
    assert [message.counter for message in opened] == [
        number if newer else None for number in range(len(sent))
    ]
    assert subscriber.poll(0) == 0


def test_messages_queued_at_the_end_are_still_sent(subscribe: Subscribe, publish: Publish) -> None:
    publisher, endpoint = publish()
    subscriber = subscribe(endpoint)
    publisher.wait_for_subscribers(1, LIMIT_S)
    numbers = [number.to_bytes(4, "little") for number in range(900)]
    for number in numbers:
        publisher.publish(number * 500)
    publisher.stop(LIMIT_S)

    assert [subscriber.recv()[:4] for _ in numbers] == numbers


def test_what_is_dropped_leaves_a_gap_in_the_counters(
    subscribe: Subscribe, publish: Publish
) -> None:
    publisher, endpoint = publish(5)
    slow = subscribe(endpoint, 5)
    publisher.wait_for_subscribers(1, LIMIT_S)
    key = Key("wire", "chacha20poly1305-v1", bytes(range(32)))
    sealer, envelope = Sealer(key), Envelope(KeyRing(SystemClock(), [key]))
    # More than the kernel's buffers hold, so that the queues of both sides fill up.
    payload = random.Random(0).randbytes(LARGE)
    for _ in range(300):
        assert publisher.publish(sealer.seal(payload))
    counters = [envelope.open("d", slow.recv()).counter]
    while counters[-1] == len(counters) - 1:
        publisher.publish(sealer.seal(payload))
        counters.append(envelope.open("d", slow.recv()).counter)

    assert (counters[-1] or 0) >= len(counters)


def test_a_publisher_that_may_not_drop_waits_for_room(
    subscribe: Subscribe, publish: Publish
) -> None:
    publisher, endpoint = publish(5, lossy=False)
    slow = subscribe(endpoint, 5)
    publisher.wait_for_subscribers(1, LIMIT_S)
    waits = iter([False] * 1000 + [True])
    sent = 0
    while publisher.publish(sent.to_bytes(4, "little") * (LARGE // 4), lambda: next(waits)):
        sent += 1

    assert sent > 0
    received = [int.from_bytes(slow.recv()[:4], "little") for _ in range(sent)]
    assert received == list(range(sent))


def test_every_subscriber_is_counted_and_forgotten_when_it_goes(
    subscribe: Subscribe, publish: Publish
) -> None:
    publisher, endpoint = publish()
    sockets = [subscribe(endpoint) for _ in range(3)]
    publisher.wait_for_subscribers(3, LIMIT_S)
    for socket in sockets:
        socket.close(linger=0)

    # A fourth never comes, so this returns only when all three are gone.
    publisher.wait_for_subscribers(4, LIMIT_S, lambda: publisher.subscribers == 0)

    assert publisher.subscribers == 0


def test_a_port_that_is_taken_is_an_error(publish: Publish) -> None:
    _, endpoint = publish()
    with pytest.raises(UnreachableError, match="taken by another process"):
        Publisher(SystemClock(), endpoint).start()
