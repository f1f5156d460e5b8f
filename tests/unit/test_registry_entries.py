import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import ConfigurationError
from consumer.registry.base import KeyEntry
from consumer.registry.entries import (
    Layout,
    MalformedError,
    Place,
    ServiceEntry,
    iso_time,
    read_detector,
    read_key,
    write_key,
)
from consumer.wire.keys import DETECTOR_CONTEXT

HEX = "0123456789abcdef" * 4
NOON = 1_499_169_600_000_000_000  # 2017-07-04T12:00:00Z


def entry(**changes: object) -> ServiceEntry:
    fields: dict[str, object] = {
        "component": "dayfold",
        "instance": "one",
        "version": "0.1.0",
        "host": "box",
        "pid": 42,
        "started_at_ns": NOON,
    }
    return ServiceEntry(**(fields | changes))  # type: ignore[arg-type]  # fields by name


def value(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_registry_keys_follow_the_layout() -> None:
    layout = Layout("/site")
    assert layout.service("ml-detector", "d1") == "/site/services/ml-detector/d1"
    assert layout.crypto_key("ml-detector", "k1") == "/site/crypto/ml-detector/keys/k1"


def test_a_registry_key_is_located_in_the_layout() -> None:
    layout = Layout()
    assert layout.locate(layout.service("a", "b")) == Place("service", "a", "b")
    assert layout.locate(layout.crypto_key("a", "b")) == Place("key", "a", "b")


@pytest.mark.parametrize(
    "key",
    [
        "/ml-defender/services/a",
        "/ml-defender/services/a/",
        "/ml-defender/services/a/b/c",
        "/ml-defender/crypto/a/b",
        "/ml-defender/crypto/a/seeds/b",
        "/other/services/a/b",
    ],
)
def test_a_key_outside_the_layout_is_located_nowhere(key: str) -> None:
    assert Layout().locate(key) is None


@pytest.mark.parametrize("prefix", ["", "relative", "/slash/"])
def test_a_prefix_that_is_no_path_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="begin with /"):
        Layout(prefix)


@pytest.mark.parametrize("name", ["", "a/b", "a b"])
def test_a_name_that_would_change_the_key_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="instance"):
        entry(instance=name)


def test_a_service_value_says_who_we_are() -> None:
    said = json.loads(entry(endpoints=("tcp://a:1", "tcp://a:2")).value({}, NOON + 10**9))
    assert said == {
        "status": "active",
        "component": "dayfold",
        "instance": "one",
        "version": "0.1.0",
        "host": "box",
        "pid": 42,
        "started_at": "2017-07-04T12:00:00.000Z",
        "updated_at": "2017-07-04T12:00:01.000Z",
        "endpoint": "tcp://a:1",
        "endpoints": ["tcp://a:1", "tcp://a:2"],
    }


def test_a_status_stands_beside_the_identity_and_cannot_overwrite_it() -> None:
    said = json.loads(entry().value({"status": "running", "lost": 3, "pid": 1}, NOON))
    assert (said["status"], said["lost"], said["pid"]) == ("running", 3, 42)


def test_numbers_that_json_does_not_know_become_null() -> None:
    said = entry().value({"rates": [1.5, float("nan")], "peak": {"x": float("inf")}}, NOON)
    read = json.loads(said, parse_constant=pytest.fail)
    assert (read["rates"], read["peak"]) == ([1.5, None], {"x": None})


def test_times_are_written_in_utc_with_milliseconds() -> None:
    assert iso_time(NOON + 123_456_789) == "2017-07-04T12:00:00.123Z"


@pytest.mark.parametrize(
    ("fields", "endpoints"),
    [
        ({"endpoint": "tcp://10.0.0.5:5572"}, ("tcp://10.0.0.5:5572",)),
        ({"endpoint": ["tcp://a:1", "tcp://b:1"]}, ("tcp://a:1", "tcp://b:1")),
        ({"endpoints": ["tcp://a:1", "tcp://a:1"]}, ("tcp://a:1",)),
        (
            {"endpoint": "tcp://*:1", "endpoints": ["tcp://*:1", "ipc:///x"]},
            ("tcp://*:1", "ipc:///x"),
        ),
    ],
)
def test_a_detector_may_name_one_endpoint_or_several(
    fields: dict[str, object], endpoints: tuple[str, ...]
) -> None:
    detector, fault = read_detector("d1", value(**fields, host="h"))
    assert (detector.instance, detector.endpoints, fault) == ("d1", endpoints, None)
    assert detector.facts["host"] == "h"


def test_a_good_endpoint_survives_a_bad_one_beside_it() -> None:
    detector, fault = read_detector("d1", value(endpoints=["tcp://a:1", "a:2", 3]))
    assert detector.endpoints == ("tcp://a:1",)
    assert fault is not None
    assert fault.startswith("2 of its endpoints")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{}", "no endpoint"),
        (value(endpoint="10.0.0.5:5572"), "not tcp://"),
        (value(endpoint={"host": "a"}), "not tcp://"),
    ],
)
def test_a_malformed_detector_is_told_apart(raw: bytes, reason: str) -> None:
    with pytest.raises(MalformedError, match=reason):
        read_detector("d1", raw)


def test_a_seed_is_read_with_its_context() -> None:
    raw = value(scheme="chacha20poly1305-v1", seed=HEX.upper(), context="c")
    assert read_key("ml-detector", "k1", raw) == KeyEntry(
        "k1", "ml-detector", "chacha20poly1305-v1", HEX, "seed", "c"
    )


def test_a_seed_without_context_is_for_the_detector_channel() -> None:
    key = read_key("ml-detector", "k1", value(scheme="chacha20poly1305-v1", seed=HEX))
    assert key.context == DETECTOR_CONTEXT


def test_a_key_is_told_from_a_seed() -> None:
    key = read_key("ml-detector", "k1", value(scheme="secretbox-v0", key=HEX))
    assert (key.kind, key.scheme, key.material) == ("key", "secretbox-v0", HEX)


@pytest.mark.parametrize(
    "given",
    [
        "2017-07-04T12:00:00Z",
        "2017-07-04T14:00:00+02:00",
        "2017-07-04T12:00:00",
        NOON // 10**9,
        NOON // 10**6,
        NOON // 10**3,
        NOON,
        float(NOON // 10**9),
    ],
)
def test_times_are_read_in_every_usual_unit(given: object) -> None:
    raw = value(scheme="secretbox-v0", key=HEX, not_before=given, not_after=None)
    key = read_key("ml-detector", "k1", raw)
    assert (key.not_before_ns, key.not_after_ns) == (NOON, None)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"key": HEX}, "scheme"),
        ({"scheme": "rot13", "key": HEX}, "scheme"),
        ({"scheme": ["secretbox-v0"], "key": HEX}, "scheme"),
        ({"scheme": "secretbox-v0"}, "exactly one"),
        ({"scheme": "secretbox-v0", "key": HEX, "seed": HEX}, "exactly one"),
        ({"scheme": "secretbox-v0", "seed": HEX}, "takes a key"),
        ({"scheme": "secretbox-v0", "key": HEX[1:]}, "64 hex"),
        ({"scheme": "secretbox-v0", "key": HEX + "\n"}, "64 hex"),
        ({"scheme": "secretbox-v0", "key": 7}, "64 hex"),
        ({"scheme": "chacha20poly1305-v1", "seed": HEX, "context": 5}, "context"),
        ({"scheme": "secretbox-v0", "key": HEX, "not_after": "soon"}, "not_after"),
        ({"scheme": "secretbox-v0", "key": HEX, "not_after": True}, "not_after"),
        ({"scheme": "secretbox-v0", "key": HEX, "not_after": -1}, "not_after"),
        ({"scheme": "secretbox-v0", "key": HEX, "not_after": float("inf")}, "not_after"),
        ({"scheme": "secretbox-v0", "key": HEX, "not_before": 2**70}, "not_before"),
    ],
)
def test_a_malformed_key_is_told_apart_without_its_material(
    fields: dict[str, object], reason: str
) -> None:
    with pytest.raises(MalformedError, match=reason) as caught:
        read_key("ml-detector", "k1", value(**fields))
    assert HEX[1:] not in str(caught.value)


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_readers(raw: bytes) -> None:
    for read in (lambda: read_detector("d", raw), lambda: read_key("c", "k", raw)):
        try:
            read()
        except MalformedError:
            continue
        pytest.fail("random bytes were taken for an entry")


def test_a_key_is_written_as_it_is_read() -> None:
    for kind, scheme in (("seed", "chacha20poly1305-v1"), ("key", "secretbox-v0")):
        raw = json.dumps({"scheme": scheme, kind: HEX, "not_before": NOON, "not_after": NOON + 1})
        key = read_key("ml-detector", "k1", raw.encode())
        assert read_key("ml-detector", "k1", write_key(key)) == key


def test_the_repr_of_a_key_hides_its_material() -> None:
    key = KeyEntry("k1", "ml-detector", "secretbox-v0", HEX, "key", "")
    assert HEX not in repr(key)
    assert "k1" in repr(key)
