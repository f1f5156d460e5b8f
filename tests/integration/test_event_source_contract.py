"""What every event source promises. A further implementation joins with one line in BENCHES."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import pytest

from consumer.backfill.watch_logs import LogWatcher
from consumer.clock import SystemClock
from consumer.errors import UsageError
from consumer.reception.endpoints import Endpoint
from consumer.reception.sources import Arrival, EventSource
from consumer.reception.subscriber import Subscriber
from proto.network_security_pb2 import NetworkSecurityEvent
from tests.integration.publishing import Publisher, counter_of

WAIT_S = 10.0


@dataclass(frozen=True)
class Bench:
    """A source that was not started, and how to make messages arrive in it.

    `ready` returns once what is fed from then on will arrive; `feed` sends so many messages with
    counters that go on from the last, and `counter_of` reads the counter of a message.
    """

    source: EventSource
    detector: str
    ready: Callable[[], None]
    feed: Callable[[int], None]
    counter_of: Callable[[bytes], int] = counter_of


@contextmanager
def live_subscriber() -> Iterator[Bench]:
    with Publisher() as publisher:
        source = Subscriber(SystemClock())
        source.set_endpoints([Endpoint("detector-01", publisher.address)])
        try:
            yield Bench(source, "detector-01", publisher.wait_for_subscribers, publisher.send)
        finally:
            source.stop()


@contextmanager
def followed_logs() -> Iterator[Bench]:
    with TemporaryDirectory() as folder:
        yield log_bench(Path(folder))


def log_bench(folder: Path) -> Bench:
    log = folder / "2017-07-04.jsonl"
    fed = count()

    def feed(lines: int) -> None:
        with log.open("ab") as file:
            for number in islice(fed, lines):
                record = {"network": {"flow": {"forward_bytes": number}}}
                file.write(json.dumps(record).encode() + b"\n")

    def number_of(message: bytes) -> int:
        flow = NetworkSecurityEvent.FromString(message).network_features
        return flow.total_forward_bytes

    source = LogWatcher(
        folder,
        folder / "positions.json",
        clock=SystemClock(),
        sync=lambda: None,
        local=ZoneInfo("UTC"),
        poll_s=0.02,
    )
    return Bench(source, "logs", lambda: None, feed, number_of)


BENCHES: list[Callable[[], AbstractContextManager[Bench]]] = [live_subscriber, followed_logs]


@pytest.fixture(params=BENCHES, ids=lambda make: make.__name__)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with request.param() as made:
        yield made


def started(bench: Bench) -> EventSource:
    bench.source.start()
    bench.ready()
    return bench.source


def take(source: EventSource, count: int, limit: int = 100) -> list[Arrival]:
    taken: list[Arrival] = []
    while len(taken) < count:
        arrivals = source.take(limit, WAIT_S)
        assert arrivals, f"only {len(taken)} of {count} messages came"
        taken += arrivals
    return taken


def test_take_gives_nothing_when_nothing_came(bench: Bench) -> None:
    source = started(bench)
    assert list(source.take(10, 0.0)) == []
    assert list(source.take(10, 0.01)) == []


def test_each_message_is_handed_out_once_and_in_order(bench: Bench) -> None:
    source = started(bench)
    bench.feed(500)
    taken = take(source, 500)
    assert [bench.counter_of(arrival.message) for arrival in taken] == list(range(500))
    assert list(source.take(10, 0.0)) == []


def test_take_never_gives_more_than_it_was_asked_for(bench: Bench) -> None:
    source = started(bench)
    bench.feed(20)
    assert [len(take(source, 1, limit=1)) for _ in range(20)] == [1] * 20


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(bench: Bench, limit: int) -> None:
    source = started(bench)
    with pytest.raises(ValueError, match="limit"):
        source.take(limit, 0.0)


def test_an_arrival_says_who_sent_it_and_when(bench: Bench) -> None:
    source = started(bench)
    before = SystemClock().now_ns()
    bench.feed(50)
    taken = take(source, 50)
    times = [arrival.arrival_ns for arrival in taken]
    assert {arrival.detector for arrival in taken} == {bench.detector}
    assert times == sorted(times)
    assert before <= times[0]
    assert times[-1] <= SystemClock().now_ns()


def test_a_waiting_take_gets_what_comes_meanwhile(bench: Bench) -> None:
    source = started(bench)
    got: list[Arrival] = []
    taker = threading.Thread(target=lambda: got.extend(source.take(10, WAIT_S)))
    taker.start()
    bench.feed(1)
    taker.join(WAIT_S)
    assert len(got) == 1


def test_what_was_received_before_stop_can_be_taken_after_it(bench: Bench) -> None:
    source = started(bench)
    bench.feed(300)
    taken = take(source, 1, limit=1)
    source.stop()
    while arrivals := source.take(7, WAIT_S):
        taken += arrivals
    assert [bench.counter_of(arrival.message) for arrival in taken] == list(range(len(taken)))


def test_a_source_is_drained_once_it_has_stopped_and_all_is_taken(bench: Bench) -> None:
    source = started(bench)
    bench.feed(10)
    take(source, 10)
    assert not source.drained
    source.stop()
    assert list(source.take(10, WAIT_S)) == []
    assert source.drained


def test_stop_wakes_a_waiting_take(bench: Bench) -> None:
    source = started(bench)
    taker = threading.Thread(target=source.take, args=(10, 10 * WAIT_S))
    taker.start()
    source.stop()
    taker.join(WAIT_S)
    assert not taker.is_alive()


def test_stop_may_be_called_again(bench: Bench) -> None:
    source = started(bench)
    source.stop()
    source.stop()
    assert source.drained


def test_a_source_that_never_started_can_be_stopped(bench: Bench) -> None:
    bench.source.stop()
    assert list(bench.source.take(1, WAIT_S)) == []
    assert bench.source.drained


def test_a_source_is_started_once(bench: Bench) -> None:
    source = started(bench)
    with pytest.raises(UsageError):
        source.start()
    source.stop()
    with pytest.raises(UsageError):
        source.start()


def test_a_source_is_a_context_manager(bench: Bench) -> None:
    with bench.source as source:
        bench.ready()
        bench.feed(5)
        assert len(take(source, 5)) == 5
    assert list(source.take(1, WAIT_S)) == []
    assert source.drained
