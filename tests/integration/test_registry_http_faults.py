"""The HTTP registry while it is down, hangs, drips, or says what it should not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from consumer.errors import RegistryError
from consumer.registry.http import HttpRegistry
from consumer.registry.http_client import MAX_ANSWER_BYTES, AnswerError, HttpClient
from consumer.registry.options import host_and_port
from tests.integration.http_registry_server import HttpRegistryServer
from tests.integration.registry_support import TIMEOUT_S, eventually, http_registry

OK = b"HTTP/1.1 200 OK\r\n"
# Answers that no registry should give, and what is said of them.
BAD = {
    "not HTTP": (b"\x00\xff\x00 hello\r\n\r\n", "not whole HTTP"),
    "a status that is no number": (b"HTTP/1.1 fine\r\n\r\n", "not whole HTTP"),
    "cut short": (OK + b"Content-Length: 50\r\n\r\n{}", "not whole HTTP"),
    "a broken chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}", "not whole HTTP"),
    "a negative chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n{}", "not whole HTTP"),
    "too many headers": (OK + b"a: b\r\n" * 200 + b"\r\n{}", "not whole HTTP"),
    "endless headers": (OK + b"a: " + b"b" * MAX_ANSWER_BYTES, "not whole HTTP"),
    "too large": (OK + b"\r\n" + b" " * MAX_ANSWER_BYTES, "larger than"),
    "endless continues": (b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000, "larger than"),
    "a claim of a terabyte": (OK + b"Content-Length: 1000000000000\r\n\r\n{}", "not whole HTTP"),
    "not JSON": (OK + b"\r\nhello", "it is not JSON"),
    "not an object": (OK + b"\r\n[]", "it is not a JSON object"),
    "deeply nested": (OK + b"\r\n" + b"[" * 100_000, "it is not JSON"),
    "an enormous number": (OK + b'\r\n{"a":' + b"9" * 5000 + b"}", "it is not JSON"),
    "refused": (b"HTTP/1.1 500 Oh\r\n\r\n", "refused with status 500"),
    "redirected": (b"HTTP/1.1 302 Go\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "status 302"),
}


@pytest.fixture
def server() -> Iterator[HttpRegistryServer]:
    with HttpRegistryServer() as started:
        yield started


@pytest.fixture
def subject(server: HttpRegistryServer) -> Iterator[HttpRegistry]:
    """A registry that is registered and knows one detector and one key."""
    server.put_config("ml-detector", {"endpoint": "tcp://a:1"})
    made = http_registry(server.url)
    made.start()
    try:
        eventually(lambda: made.facts().connected and known(made))
        yield made
    finally:
        made.stop()


def known(subject: HttpRegistry) -> bool:
    return len(subject.detectors()) == 1 and len(subject.keys()) >= 1


def client(server: HttpRegistryServer) -> HttpClient:
    return HttpClient(server.url, *host_and_port(server.url), timeout_s=10.0)


def stop_in_time(subject: HttpRegistry) -> None:
    """`stop` waits for its thread no longer than it promises, so who has ended, ended in time."""
    stopping = threading.Thread(target=subject.stop)
    stopping.start()
    stopping.join(10)
    assert not stopping.is_alive()
    assert not subject._thread.is_alive()


def test_what_was_known_stays_known_while_it_is_down_and_it_has_us_back(
    server: HttpRegistryServer, subject: HttpRegistry
) -> None:
    server.stop()
    eventually(lambda: not subject.facts().connected)
    assert known(subject)
    error = subject.facts().last_error
    assert error is not None
    assert server.url in error
    server.start()
    eventually(lambda: subject.facts().connected)
    assert subject.facts().last_error is None
    # It kept its memory, so it still knew us.
    assert subject.facts().reregistrations == 0


def test_a_start_before_the_registry_waits_for_it_to_appear(server: HttpRegistryServer) -> None:
    server.stop()
    subject = http_registry(server.url)
    subject.start()
    try:
        eventually(lambda: subject.facts().last_error is not None)
        assert (subject.keys(), subject.detectors()) == ([], [])
        server.start()
        eventually(lambda: subject.facts().connected)
        assert server.components() == ["dayfold"]
    finally:
        subject.stop()


def test_a_registry_that_is_down_holds_nobody_up(server: HttpRegistryServer) -> None:
    server.hang()
    subject = http_registry(server.url, timeout_s=60.0)
    done = threading.Event()

    def use() -> None:
        subject.start()
        subject.publish_status({"status": "running"}, urgent=True)
        subject.detectors()
        subject.keys()
        subject.facts()
        done.set()

    user = threading.Thread(target=use)
    user.start()
    # The call to the registry lasts until the server is released, so only a wait would be caught.
    assert done.wait(10)
    user.join()
    server.stop()
    subject.stop()


def test_pauses_between_tries_are_bounded_by_the_heartbeat(server: HttpRegistryServer) -> None:
    server.raw["*"] = b""
    subject = http_registry(server.url, heartbeat_s=0.1, backoff_base_s=10.0)
    subject.start()
    try:
        eventually(lambda: subject._failures >= 5)
    finally:
        subject.stop()


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_a_registry_that_does_not_finish_its_answers_is_given_up(
    server: HttpRegistryServer, how: str
) -> None:
    subject = http_registry(server.url, timeout_s=TIMEOUT_S)
    subject.start()
    try:
        eventually(lambda: len(subject.keys()) == 1 and subject.facts().connected)
        server.hanging, server.dripping = how == "hang", how == "drip"
        eventually(lambda: not subject.facts().connected)
        assert "no whole answer within" in (subject.facts().last_error or "")
        assert len(subject.keys()) == 1
        server.hanging = server.dripping = False
        eventually(lambda: subject.facts().connected)
    finally:
        subject.stop()


def test_stop_ends_in_time_although_the_registry_hangs(
    server: HttpRegistryServer, subject: HttpRegistry
) -> None:
    server.hang()
    stop_in_time(subject)


def test_stop_in_the_middle_of_a_hanging_call_ends_in_time(server: HttpRegistryServer) -> None:
    server.hang()
    subject = http_registry(server.url, timeout_s=60.0)
    subject.start()
    # Once it has connected it waits for an answer that never comes.
    eventually(lambda: subject._membership.announced_at is not None)
    stop_in_time(subject)


def test_stop_in_the_middle_of_connecting_ends_in_time() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        # The queue of a listener that accepts nobody is full after one or two.
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        subject = http_registry(f"http://127.0.0.1:{port}", timeout_s=60.0)
        subject.start()
        eventually(lambda: subject._membership.announced_at is not None)
        stop_in_time(subject)
        for sock in waiting:
            sock.close()


def test_a_registration_whose_answer_never_came_is_taken_back_on_stop(
    server: HttpRegistryServer,
) -> None:
    server.raw["/register"] = b""
    subject = http_registry(server.url)
    subject.start()
    eventually(lambda: subject.facts().last_error is not None)
    subject.stop()
    assert server.count("POST", "/unregister") == 1


@pytest.mark.parametrize(("raw", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_answer_where_it_matters_is_counted_and_named_and_overcome(
    server: HttpRegistryServer, subject: HttpRegistry, raw: bytes, reason: str
) -> None:
    before = subject.facts().malformed
    server.raw["/v1/heartbeat/dayfold"] = raw
    eventually(lambda: not subject.facts().connected)
    eventually(lambda: subject.facts().malformed > before)
    assert reason in subject.facts().malformed_keys["POST /v1/heartbeat/dayfold"]
    assert reason in (subject.facts().last_error or "")
    assert known(subject)
    server.raw.clear()
    eventually(lambda: subject.facts().connected)
    assert subject.facts().malformed_keys == {}


@pytest.mark.parametrize(("raw", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_answer_elsewhere_is_counted_and_named_and_harms_nothing(
    server: HttpRegistryServer, subject: HttpRegistry, raw: bytes, reason: str
) -> None:
    paths = ["/seed", "/components", "/config/ml-detector"]
    server.raw |= dict.fromkeys(paths, raw)
    eventually(lambda: set(subject.facts().malformed_keys) >= {f"GET {path}" for path in paths})
    assert all(reason in fault for fault in subject.facts().malformed_keys.values())
    renewals = subject.facts().renewals
    eventually(lambda: subject.facts().renewals > renewals)
    assert subject.facts().connected
    assert known(subject)
    assert subject.facts().components == ("dayfold", "ml-detector")


def test_a_status_that_is_refused_is_noted_and_harms_nothing(
    server: HttpRegistryServer, subject: HttpRegistry
) -> None:
    server.raw["/v1/config/dayfold"] = b"HTTP/1.1 500 Oh\r\n\r\n"
    eventually(lambda: "PUT /v1/config/dayfold" in subject.facts().malformed_keys)
    assert subject.facts().connected


def test_a_registration_that_is_refused_is_tried_again(server: HttpRegistryServer) -> None:
    server.raw["/register"] = b"HTTP/1.1 400 No\r\n\r\n"
    subject = http_registry(server.url)
    subject.start()
    try:
        eventually(lambda: subject.facts().malformed >= 2)
        assert "refused with status 400" in (subject.facts().last_error or "")
        server.raw.clear()
        eventually(lambda: subject.facts().connected)
    finally:
        subject.stop()


def test_a_key_that_is_none_leaves_us_registered(server: HttpRegistryServer) -> None:
    server.key, server.seed = "no key at all", "AB" * 31
    subject = http_registry(server.url)
    subject.start()
    try:
        eventually(lambda: subject.facts().connected)
        assert subject.keys() == []
        reasons = subject.facts().malformed_keys
        assert reasons["POST /register"] == "its encryption_key is not 64 hex digits"
        assert reasons["GET /seed"] == "its seed is not 64 hex digits"
    finally:
        subject.stop()


def test_the_first_server_dead_is_passed_over_and_the_one_in_use_dying_too() -> None:
    with HttpRegistryServer() as first, HttpRegistryServer() as second:
        second_key = second.key
        first.stop()
        subject = http_registry(first.url, second.url)
        subject.start()
        try:
            eventually(lambda: subject.facts().endpoint == second.url)
            first.start()
            second.stop()
            eventually(lambda: subject.facts().endpoint == first.url)
            assert first.components() == ["dayfold"]
            keys = subject.keys()
            assert [key.material.upper() for key in keys] == [second_key, first.key]
        finally:
            subject.stop()


def test_an_error_names_the_registry_the_call_and_the_reason() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        dead = HttpClient(f"http://127.0.0.1:{port}", "127.0.0.1", port, timeout_s=1)
        reason = rf"registry at http://127\.0\.0\.1:{port}: GET /seed: Connection refused"
        with pytest.raises(RegistryError, match=reason):
            dead.call("GET", "/seed")


def test_a_host_without_an_address_is_a_registry_error() -> None:
    with pytest.raises(RegistryError, match="GET /seed"):
        HttpClient("http://nowhere.invalid:1", "nowhere.invalid", 1, timeout_s=1).call(
            "GET", "/seed"
        )


def test_an_answer_up_to_the_limit_is_read(server: HttpRegistryServer) -> None:
    server.raw["/seed"] = OK + b"\r\n" + b"x" * (MAX_ANSWER_BYTES - len(OK) - 2)
    assert len(client(server).call("GET", "/seed").body) == MAX_ANSWER_BYTES - len(OK) - 2
    server.raw["/seed"] += b"x"
    with pytest.raises(AnswerError, match="larger than"):
        client(server).call("GET", "/seed")


def test_the_machines_proxy_is_not_used(
    server: HttpRegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert client(server).call("GET", "/health").status == 200


def test_an_answer_does_not_show_its_body(server: HttpRegistryServer) -> None:
    answer = client(server).call("GET", "/seed")
    assert server.seed in answer.body.decode()
    assert server.seed not in repr(answer)
