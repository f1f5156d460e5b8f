"""Endpoints that come, go, return, or cannot be used."""

from functools import partial

from consumer.clock import ManualClock
from consumer.reception.endpoints import Endpoint
from consumer.reception.links import MOST_LEAVING, RETIRED_RECORDS
from tests.integration.publishing import Publisher
from tests.integration.reception import (
    WAIT_S,
    leaving,
    link,
    subscribed,
    take,
    wait_connected,
    wait_until,
)
from tests.integration.test_subscriber import open_files


def test_an_endpoint_taken_away_stays_connected_for_the_grace_time() -> None:
    clock = ManualClock()
    with Publisher() as publisher:
        endpoint = Endpoint("a", publisher.address)
        with subscribed(endpoint, clock=clock, grace_s=60.0) as subscriber:
            publisher.wait_for_subscribers()
            subscriber.set_endpoints([])
            wait_until("the grace time runs", lambda: leaving(subscriber) != {})
            clock.advance(59.0)
            publisher.send(1)
            assert len(take(subscriber, 1)) == 1
            assert link(subscriber).connected
            clock.advance(2.0)
            wait_connected(subscriber, connected=False)
            assert publisher.socket.poll(int(WAIT_S) * 1000)
            assert publisher.socket.recv() == b"\0"
            wait_until("the record is retired", lambda: subscriber.facts() == [])
            assert [facts.retired for facts in subscriber.facts(retired=True)] == [True]


def test_an_endpoint_that_comes_back_within_the_grace_time_is_not_disconnected() -> None:
    clock = ManualClock()
    with Publisher() as publisher:
        endpoint = Endpoint("a", publisher.address)
        with subscribed(endpoint, clock=clock, grace_s=60.0) as subscriber:
            publisher.wait_for_subscribers()
            subscriber.set_endpoints([])
            wait_until("the grace time runs", lambda: leaving(subscriber) != {})
            clock.advance(30.0)
            subscriber.set_endpoints([endpoint])
            wait_until("the grace time is off", lambda: leaving(subscriber) == {})
            clock.advance(60.0)
            publisher.send(1)
            take(subscriber, 1)
            assert publisher.socket.poll(0) == 0
            assert link(subscriber).gaps_total == 0


def test_a_detector_that_returns_goes_on_counting() -> None:
    with Publisher() as publisher:
        endpoint = Endpoint("a", publisher.address)
        with subscribed(endpoint) as subscriber:
            publisher.wait_for_subscribers()
            publisher.send(4)
            take(subscriber, 4)
            subscriber.set_endpoints([])
            wait_until("it is retired", lambda: link(subscriber).retired)
            subscriber.set_endpoints([endpoint])
            publisher.wait_for_subscribers()
            publisher.send(6)
            take(subscriber, 6)
            facts = link(subscriber)
            assert (facts.received, facts.gaps_total, facts.retired) == (10, 1, False)


def test_an_endpoint_that_cannot_be_used_is_listed_with_its_fault_and_hurts_no_other() -> None:
    with Publisher() as publisher:
        endpoints = [
            Endpoint("wildcard", "tcp://*:5572"),
            Endpoint("badkey", "tcp://127.0.0.1:5572", "short"),
            Endpoint("a", publisher.address),
        ]
        with subscribed(*endpoints) as subscriber:
            publisher.wait_for_subscribers()
            publisher.send(1)
            assert len(take(subscriber, 1)) == 1
            assert "every interface" in str(link(subscriber, "wildcard").fault)
            assert "40 characters" in str(link(subscriber, "badkey").fault)


def test_retired_links_are_kept_in_bounded_number() -> None:
    endpoints = [Endpoint(f"d{number:03}", "tcp://*:5572") for number in range(300)]
    with subscribed(*endpoints) as subscriber:
        wait_until("all are listed", lambda: len(subscriber.facts()) == 300)
        subscriber.set_endpoints([])
        wait_until("all are gone", lambda: subscriber.facts() == [])
        assert len(subscriber.facts(retired=True)) == 256


def test_endpoints_that_come_and_go_all_the_time_do_not_pile_up() -> None:
    """A registry whose entries change at every look: 600 detectors, none of which is there."""
    with Publisher() as publisher:
        before = open_files()
        with subscribed(grace_s=60.0) as subscriber:
            for turn in range(200):
                names = {f"{turn}-{place}" for place in range(3)}
                subscriber.set_endpoints([Endpoint(name, "tcp://127.0.0.1:1") for name in names])
                wait_until(
                    f"turn {turn}",
                    partial(lambda names: names <= {f.detector for f in subscriber.facts()}, names),
                )
            assert subscriber._links is not None
            assert len(subscriber._links._links) <= MOST_LEAVING + 3
            assert len(subscriber.facts(retired=True)) <= MOST_LEAVING + 3 + RETIRED_RECORDS
            subscriber.set_endpoints([Endpoint("a", publisher.address)])
            wait_connected(subscriber)
        wait_until("every file is closed", lambda: open_files() == before)
