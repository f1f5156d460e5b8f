import os
import threading
from types import SimpleNamespace

import pytest

from consumer.clock import SystemClock
from consumer.errors import ConfigurationError, DayfoldError
from consumer.reception.endpoints import Endpoint
from consumer.reception.handover import MESSAGE_OVERHEAD
from consumer.reception.links import BURST_MESSAGES, MIB, Links
from consumer.reception.subscriber import Subscriber
from consumer.wire.losses import LossLedger
from tests.integration.publishing import Publisher, PublisherProcess, counter_of
from tests.integration.reception import (
    WAIT_S,
    link,
    subscribed,
    take,
    wait_connected,
    wait_held,
    wait_received,
    wait_until,
)

pytestmark = pytest.mark.usefixtures("each_way")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counting, not walking


def test_every_message_of_two_detectors_arrives_in_order() -> None:
    with Publisher() as a, Publisher() as b:
        with subscribed(Endpoint("a", a.address), Endpoint("b", b.address)) as subscriber:
            a.wait_for_subscribers()
            b.wait_for_subscribers()
            a.send(700)
            b.send(900)
            wait_held(subscriber, 1_600)
            arrivals = subscriber.take(2_000, 0.0)
        for detector, count in (("a", 700), ("b", 900)):
            counters = [counter_of(x.message) for x in arrivals if x.detector == detector]
            assert counters == list(range(count))


def test_a_detector_that_floods_does_not_starve_another() -> None:
    with (
        PublisherProcess() as flooding,
        Publisher() as quiet,
        subscribed(
            Endpoint("flooding", flooding.address),
            Endpoint("quiet", quiet.address),
            handover_bytes=MIB,
        ) as subscriber,
    ):
        flooding.do("wait 1")
        quiet.wait_for_subscribers()
        flooding.tell("flood 2048")
        wait_until("the flood fills the handover", lambda: link(subscriber, "flooding").dropped > 0)
        for _ in range(20):
            flooded = link(subscriber, "flooding").received
            quiet.send(10)
            take(subscriber, 10, "quiet")
            wait_received(subscriber, flooded + BURST_MESSAGES, "flooding")
        assert link(subscriber, "quiet").dropped == 0


def test_a_full_handover_drops_counts_and_never_blocks() -> None:
    with (
        Publisher(hwm=0) as publisher,
        subscribed(Endpoint("a", publisher.address), handover_bytes=64 * 1024) as subscriber,
    ):
        publisher.wait_for_subscribers()
        publisher.send(1_000, 1_024)
        wait_until(
            "all are held or dropped",
            lambda: (
                subscriber.held_bytes // (1_024 + MESSAGE_OVERHEAD) + link(subscriber).dropped
                == 1_000
            ),
        )
        facts = link(subscriber)
        kept = subscriber.take(1_000, 0.0)
        assert facts.received == 1_000
        assert len(kept) + facts.dropped == 1_000
        assert [counter_of(arrival.message) for arrival in kept] == list(range(len(kept)))
        assert 50 < len(kept) < 64
        # Once there is room again, what arrives is kept again.
        publisher.send(1, 1_024)
        assert counter_of(take(subscriber, 1)[0].message) == 1_000


def test_what_the_publisher_drops_is_counted_to_the_message() -> None:
    with (
        PublisherProcess(hwm=2) as publisher,
        subscribed(Endpoint("a", publisher.address)) as subscriber,
    ):
        publisher.do("wait 1")
        publisher.do("send 30000 2048")
        ledger = LossLedger()
        received = 0
        # Until a message comes that was sent after the flood: then all before it came or is lost.
        while (ledger.facts("a").last_counter or 0) < 30_000:
            publisher.do("send 1 2048")
            for arrival in subscriber.take(40_000, 0.2):
                ledger.note("a", counter_of(arrival.message))
                received += 1
        facts = ledger.facts("a")
        assert facts.lost > 0
        assert (facts.received, facts.repeats, facts.epochs) == (received, 0, 1)
        assert facts.received + facts.lost == (facts.last_counter or 0) + 1


def test_a_restarted_publisher_is_connected_again_and_leaves_a_gap_window() -> None:
    with PublisherProcess() as first, subscribed(Endpoint("a", first.address)) as subscriber:
        first.do("wait 1")
        first.do("send 10")
        take(subscriber, 10)
        last_ns = link(subscriber).last_arrival_ns
        first.close()
        wait_connected(subscriber, connected=False)
        assert link(subscriber).fault == "connection lost"
        with PublisherProcess(port=first.port) as second:
            second.do("wait 1")
            second.do("send 5")
            assert len(take(subscriber, 5)) == 5
            wait_connected(subscriber)
            facts = link(subscriber)
            assert facts.gaps_total == 1
            assert last_ns is not None
            start_ns, end_ns = facts.gap_windows[0]
            assert last_ns <= start_ns < end_ns == facts.since_ns
            assert facts.received == 15
            assert facts.fault is None


def test_a_frozen_publisher_is_noticed_by_its_heartbeat() -> None:
    with (
        PublisherProcess() as publisher,
        subscribed(Endpoint("a", publisher.address)) as subscriber,
    ):
        publisher.do("wait 1")
        wait_connected(subscriber)
        publisher.freeze()
        wait_connected(subscriber, connected=False)
        publisher.thaw()
        publisher.do("wait 1")
        wait_connected(subscriber)
        publisher.do("send 3")
        assert len(take(subscriber, 3)) == 3
        assert link(subscriber).gaps_total >= 1


def test_a_detector_that_starts_later_is_connected_when_it_comes() -> None:
    with Publisher() as taken_port:
        port = taken_port.port
    with subscribed(Endpoint("a", f"tcp://127.0.0.1:{port}")) as subscriber:
        wait_until("the link is listed", lambda: subscriber.facts() != [])
        assert not link(subscriber).connected
        with Publisher(port=port) as publisher:
            publisher.wait_for_subscribers()
            publisher.send(2)
            assert len(take(subscriber, 2)) == 2
            assert link(subscriber).gaps_total == 0


def test_a_log_that_cannot_be_written_does_not_end_reception(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("consumer.reception.link.log", SimpleNamespace(info=broken, warning=broken))
    with Publisher() as publisher, subscribed(Endpoint("a", publisher.address)) as subscriber:
        publisher.wait_for_subscribers()
        publisher.send(3)
        assert len(take(subscriber, 3)) == 3


def test_an_ipv6_detector_is_received() -> None:
    with (
        Publisher(host="::1") as publisher,
        subscribed(Endpoint("a", publisher.address)) as subscriber,
    ):
        publisher.wait_for_subscribers()
        publisher.send(2)
        assert len(take(subscriber, 2)) == 2


def test_a_detector_known_by_name_is_received() -> None:
    with (
        Publisher() as publisher,
        subscribed(Endpoint("a", f"tcp://localhost:{publisher.port}")) as subscriber,
    ):
        publisher.wait_for_subscribers()
        publisher.send(2)
        assert len(take(subscriber, 2)) == 2


def test_a_message_of_several_parts_is_dropped_and_counted() -> None:
    with Publisher() as publisher, subscribed(Endpoint("a", publisher.address)) as subscriber:
        publisher.wait_for_subscribers()
        publisher.socket.send_multipart([b"topic", b"body", b"more"])
        publisher.socket.send(b"single")
        arrivals = take(subscriber, 1)
        assert [arrival.message for arrival in arrivals] == [b"single"]
        assert (link(subscriber).received, link(subscriber).malformed) == (1, 1)


def test_an_oversize_message_is_dropped_and_counted_and_the_link_stays() -> None:
    with (
        Publisher() as publisher,
        subscribed(Endpoint("a", publisher.address), max_message_bytes=1_000) as subscriber,
    ):
        publisher.wait_for_subscribers()
        publisher.socket.send(bytes(1_001))
        publisher.socket.send(bytes(1_000))
        assert [len(arrival.message) for arrival in take(subscriber, 1)] == [1_000]
        assert (link(subscriber).oversize, link(subscriber).gaps_total) == (1, 0)


def test_a_message_above_twice_the_limit_costs_the_connection_and_shows_as_a_gap() -> None:
    with (
        Publisher() as publisher,
        subscribed(Endpoint("a", publisher.address), max_message_bytes=1_000) as subscriber,
    ):
        publisher.wait_for_subscribers()
        publisher.socket.send(bytes(2_001))
        publisher.wait_for_subscribers()
        publisher.send(1)
        take(subscriber, 1)
        wait_connected(subscriber)
        assert link(subscriber).gaps_total == 1


def test_large_messages_arrive_whole() -> None:
    with Publisher() as publisher, subscribed(Endpoint("a", publisher.address)) as subscriber:
        publisher.wait_for_subscribers()
        publisher.send(5, 3 * MIB)
        assert [len(arrival.message) for arrival in take(subscriber, 5)] == [3 * MIB] * 5


def test_endpoints_may_be_set_from_many_threads_while_messages_flow() -> None:
    with PublisherProcess() as flooding, Publisher() as other:
        both = [Endpoint("a", flooding.address), Endpoint("b", other.address)]
        with subscribed(*both) as subscriber:
            flooding.do("wait 1")
            flooding.tell("flood 256")

            def shuffle() -> None:
                for turn in range(60):
                    subscriber.set_endpoints(both[: turn % 3])
                    subscriber.take(1_000, 0.001)

            threads = [threading.Thread(target=shuffle) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(WAIT_S)
            assert subscriber.alive
            subscriber.set_endpoints(both)
            wait_connected(subscriber, "a")
            wait_connected(subscriber, "b")
            take(subscriber, 1, "a")


def test_stop_while_messages_flow_ends_the_drain_thread() -> None:
    with (
        PublisherProcess() as flooding,
        subscribed(Endpoint("a", flooding.address), handover_bytes=MIB) as subscriber,
    ):
        flooding.do("wait 1")
        flooding.tell("flood 2048")
        take(subscriber, 1_000)
        subscriber.stop()
        assert not subscriber.alive
        while subscriber.take(1_000, WAIT_S):
            pass
        assert subscriber.drained


def test_stop_gives_back_every_file_descriptor() -> None:
    with Publisher() as publisher:
        endpoints = [Endpoint("a", publisher.address), Endpoint("b", "tcp://127.0.0.1:1")]
        before = open_files()
        for _ in range(3):
            with subscribed(*endpoints):
                publisher.wait_for_subscribers()
        # The publisher, in this process too, closes its ends a moment later.
        wait_until("every file is closed", lambda: open_files() == before)


def test_many_detectors_are_received_at_once() -> None:
    publishers = [Publisher() for _ in range(20)]
    try:
        endpoints = [Endpoint(f"d{n:02}", p.address) for n, p in enumerate(publishers)]
        with subscribed(*endpoints) as subscriber:
            for publisher in publishers:
                publisher.wait_for_subscribers()
                publisher.send(50)
            wait_held(subscriber, 1_000)
            arrivals = subscriber.take(2_000, 0.0)
            assert len(arrivals) == 1_000
            assert {arrival.detector for arrival in arrivals} == {e.detector for e in endpoints}
    finally:
        for publisher in publishers:
            publisher.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_drain_thread_that_breaks_down_is_reported_to_the_taker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("planted")

    subscriber = Subscriber(SystemClock())
    monkeypatch.setattr(Links, "settle", fail)
    with subscriber:
        subscriber.set_endpoints([Endpoint("a", "tcp://127.0.0.1:1")])
        with pytest.raises(DayfoldError, match="restart"):
            subscriber.take(1, WAIT_S)
        wait_until("the thread has ended", lambda: not subscriber.alive)


def test_a_limit_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="handover_bytes is 0"):
        Subscriber(SystemClock(), handover_bytes=0)
    with pytest.raises(ConfigurationError, match="heartbeat_ivl_ms is -1"):
        Subscriber(SystemClock(), heartbeat_ivl_ms=-1)
