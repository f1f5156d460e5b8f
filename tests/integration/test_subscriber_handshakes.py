"""CURVE keys right and wrong, and peers that are no detectors at all."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq
from zmq.auth.thread import ThreadAuthenticator

from consumer.clock import ManualClock, SystemClock
from consumer.errors import ConfigurationError
from consumer.reception.endpoints import Endpoint
from consumer.reception.subscriber import Subscriber
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


def keys() -> tuple[str, str]:
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


@contextmanager
def guarded(server_secret: str, admitted: str) -> Iterator[Publisher]:
    """A publisher that admits one client key only."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve_callback("detectors", credentials_provider=_Admitting(admitted))
    publisher = Publisher(curve_secret=server_secret, zap_domain="detectors", context=context)
    try:
        yield publisher
    finally:
        publisher.close()
        authenticator.stop()
        context.destroy(linger=0)


class _Admitting:
    def __init__(self, public: str) -> None:
        self._public = public.encode()

    def callback(self, domain: str, key: bytes) -> bool:
        return key == self._public


def test_messages_arrive_over_curve_with_the_right_keys() -> None:
    server_public, server_secret = keys()
    public, secret = keys()
    with (
        guarded(server_secret, public) as publisher,
        subscribed(
            Endpoint("a", publisher.address, server_public),
            curve_public=public,
            curve_secret=secret,
        ) as subscriber,
    ):
        publisher.wait_for_subscribers()
        publisher.send(20)
        assert len(take(subscriber, 20)) == 20
        assert link(subscriber).handshake_failures == 0


def test_a_key_pair_is_made_when_none_is_given() -> None:
    server_public, server_secret = keys()
    with (
        Publisher(curve_secret=server_secret) as publisher,
        subscribed(Endpoint("a", publisher.address, server_public)) as subscriber,
    ):
        publisher.wait_for_subscribers()
        publisher.send(3)
        assert len(take(subscriber, 3)) == 3


def wait_for_failures(subscriber: Subscriber, count: int = 2) -> str:
    wait_until("the link is listed", lambda: subscriber.facts() != [])
    wait_until("failures count", lambda: link(subscriber).handshake_failures >= count)
    assert not link(subscriber).connected
    return str(link(subscriber).fault)


def test_a_wrong_server_key_fails_visibly() -> None:
    with (
        Publisher(curve_secret=keys()[1]) as publisher,
        subscribed(Endpoint("a", publisher.address, keys()[0])) as subscriber,
    ):
        assert "check the CURVE keys" in wait_for_failures(subscriber)


def test_a_client_key_that_is_not_admitted_fails_visibly() -> None:
    server_public, server_secret = keys()
    public, secret = keys()
    with (
        guarded(server_secret, keys()[0]) as publisher,
        subscribed(
            Endpoint("a", publisher.address, server_public),
            curve_public=public,
            curve_secret=secret,
        ) as subscriber,
    ):
        assert "does not admit our CURVE key" in wait_for_failures(subscriber)


def test_a_detector_with_curve_refuses_a_link_without_it_visibly() -> None:
    with (
        Publisher(curve_secret=keys()[1]) as publisher,
        subscribed(Endpoint("a", publisher.address)) as subscriber,
    ):
        assert "CURVE" in wait_for_failures(subscriber)


def test_a_link_with_curve_refuses_a_detector_without_it_visibly() -> None:
    with (
        Publisher() as publisher,
        subscribed(Endpoint("a", publisher.address, keys()[0])) as subscriber,
    ):
        assert "CURVE" in wait_for_failures(subscriber)


def test_a_corrected_key_connects() -> None:
    server_public, server_secret = keys()
    with (
        Publisher(curve_secret=server_secret) as publisher,
        subscribed(Endpoint("a", publisher.address, keys()[0])) as subscriber,
    ):
        wait_for_failures(subscriber)
        subscriber.set_endpoints([Endpoint("a", publisher.address, server_public)])
        publisher.wait_for_subscribers()
        publisher.send(1)
        take(subscriber, 1)
        assert link(subscriber).fault is None


def test_a_detector_whose_curve_is_put_right_is_connected_by_itself() -> None:
    server_public, server_secret = keys()
    with Publisher() as wrong:
        port = wrong.port
        endpoint = Endpoint("a", wrong.address, server_public)
        with subscribed(endpoint) as subscriber:
            wait_for_failures(subscriber)
            wrong.close()
            with Publisher(port=port, curve_secret=server_secret) as right:
                right.wait_for_subscribers()
                right.send(1)
                take(subscriber, 1)


def test_an_abandoned_link_that_left_and_returned_is_tried_again() -> None:
    clock = ManualClock()
    server_public, server_secret = keys()
    public, secret = keys()
    with (
        guarded(server_secret, keys()[0]) as publisher,
        subscribed(
            Endpoint("a", publisher.address, server_public),
            clock=clock,
            grace_s=60.0,
            curve_public=public,
            curve_secret=secret,
        ) as subscriber,
    ):
        wait_for_failures(subscriber, 1)
        subscriber.set_endpoints([])
        wait_until("the grace time runs", lambda: leaving(subscriber) != {})
        subscriber.set_endpoints([Endpoint("a", publisher.address, server_public)])
        wait_until("it is taken back", lambda: leaving(subscriber) == {})
        clock.advance(60.0)
        wait_for_failures(subscriber, 2)


def test_a_fault_in_one_handshake_hurts_no_other_detector() -> None:
    with (
        Publisher(curve_secret=keys()[1]) as wrong,
        Publisher() as right,
        subscribed(
            Endpoint("wrong", wrong.address, keys()[0]), Endpoint("right", right.address)
        ) as subscriber,
    ):
        right.wait_for_subscribers()
        right.send(5)
        take(subscriber, 5, "right")
        wait_connected(subscriber, "right")


@contextmanager
def tcp_server(answer: bytes) -> Iterator[str]:
    """Accepts connections and says the same to everyone, without being ZeroMQ."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                held.append(peer)
                peer.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(WAIT_S)
        for peer in held:
            peer.close()


def test_a_peer_with_another_mechanism_counts_as_failed_handshakes() -> None:
    # A ZMTP 3.1 greeting (signature, version) that asks for a mechanism nobody knows.
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01BOGUS" + bytes(47)
    with tcp_server(greeting) as address, subscribed(Endpoint("a", address)) as subscriber:
        assert "MECHANISM_MISMATCH" in wait_for_failures(subscriber)


def test_a_peer_that_is_no_zeromq_never_counts_as_connected() -> None:
    with (
        tcp_server(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10) as address,
        Publisher() as publisher,
        subscribed(Endpoint("a", address), Endpoint("b", publisher.address)) as subscriber,
    ):
        publisher.wait_for_subscribers()
        publisher.send(10)
        take(subscriber, 10, "b")
        assert not link(subscriber, "a").connected


def test_a_peer_that_says_nothing_is_given_up_and_tried_again() -> None:
    with tcp_server(b"") as address, subscribed(Endpoint("a", address)) as subscriber:
        assert "handshake failed" in wait_for_failures(subscriber)


def test_one_curve_key_without_the_other_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="belong together"):
        Subscriber(SystemClock(), curve_public=keys()[0])


def test_a_curve_key_that_is_none_is_refused_and_never_quoted() -> None:
    with pytest.raises(ConfigurationError, match="curve_secret is not a CURVE key") as caught:
        Subscriber(SystemClock(), curve_public=keys()[0], curve_secret="not-a-key")
    assert "not-a-key" not in str(caught.value)
