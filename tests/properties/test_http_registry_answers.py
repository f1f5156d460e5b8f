"""Nothing that a registry may say makes us fail in another way than by the errors we know."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.errors import RegistryError
from consumer.reception.detectors import endpoints_from_registry, keys_from_registry
from consumer.registry.entries import MalformedError
from consumer.registry.http_answers import read_components, read_config, read_key_field
from consumer.registry.http_client import HttpClient
from consumer.registry.http_directory import MAX_KEYS, HttpDirectory, KeySource
from consumer.registry.options import host_and_port
from tests.integration.http_registry_server import HttpRegistryServer

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(["", "ab" * 32, "tcp://*:5572", "tcp://a:" + "9" * 30, "tcp://\ud800:1"]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
fields = st.sampled_from(
    ["status", "seed", "encryption_key", "components", "endpoint", "endpoints", "host"]
)
answers = st.one_of(
    st.binary(),
    values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(fields, values).map(lambda value: json.dumps(value).encode()),
)
heads = st.lists(
    st.sampled_from(
        [
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/0.9",
            b"Content-Length: 3\r\n",
            b"Content-Length: -3\r\n",
            b"Content-Length: 99999999999999\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: keep-alive\r\n",
            b"\r\n",
            b"ffffffffff\r\n",
            b"-1\r\n",
            b"0\r\n\r\n",
        ]
    )
    | st.binary(max_size=30),
    max_size=8,
).map(b"".join)


def read_or_malformed(read: Callable[[bytes], object], body: bytes) -> None:
    with contextlib.suppress(MalformedError):
        read(body)


@given(body=answers)
def test_no_body_crashes_the_readers(body: bytes) -> None:
    read_or_malformed(lambda given: read_key_field("seed", given), body)
    read_or_malformed(read_components, body)
    read_or_malformed(lambda given: read_config("ml-detector", given), body)


@given(
    bodies=st.lists(st.dictionaries(fields, values).map(lambda v: json.dumps(v).encode()) | answers)
)
def test_what_was_taken_can_always_be_used_and_shown(bodies: list[bytes]) -> None:
    directory = HttpDirectory("ml-detector")
    for body in bodies:
        try:
            directory.take_key("seed", read_key_field("seed", body))
        except MalformedError as error:
            directory.note("GET /seed", str(error))
        try:
            directory.take_components(read_components(body)[0])
            directory.take_detector("ml-detector", read_config("ml-detector", body)[0])
        except MalformedError as error:
            directory.note("GET /components", str(error))
    assert len(keys_from_registry(directory.keys())) == len(directory.keys())
    endpoints_from_registry(directory.detectors())
    for name in directory.components():
        name.encode()
    assert directory.faults()[0] >= len(directory.faults()[1])


@given(
    handed=st.lists(
        st.tuples(st.sampled_from(get_args(KeySource)), st.integers(0, 100)), max_size=300
    )
)
def test_the_keys_handed_out_now_are_listed_and_the_list_is_bounded(
    handed: list[tuple[KeySource, int]],
) -> None:
    directory = HttpDirectory("ml-detector")
    current: dict[KeySource, str] = {}
    ever: set[str] = set()
    for source, number in handed:
        material = f"{number:064x}"
        directory.take_key(source, material)
        current[source] = material
        ever.add(material)
        keys = directory.keys()
        listed = [key.material for key in keys]
        assert set(current.values()) <= set(listed)
        assert len(listed) == len(set(listed)) <= MAX_KEYS
        if len(ever) <= MAX_KEYS:
            assert set(listed) == ever


@pytest.fixture(scope="module")
def server() -> Iterator[HttpRegistryServer]:
    with HttpRegistryServer() as started:
        yield started


@settings(max_examples=150)
@given(raw=st.one_of(st.binary(), st.builds(bytes.__add__, heads, answers)))
def test_no_bytes_on_the_socket_raise_anything_but_a_registry_error(
    server: HttpRegistryServer, raw: bytes
) -> None:
    server.raw["*"] = raw
    client = HttpClient(server.url, *host_and_port(server.url), timeout_s=5.0)
    try:
        answer = client.call("GET", "/seed")
    except RegistryError:
        return
    assert answer.body in raw or b"chunked" in raw
