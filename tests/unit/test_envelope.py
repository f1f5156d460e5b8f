"""Opening messages: which key, how much, and what is refused."""

from __future__ import annotations

import tracemalloc

import lz4.block
import pytest

from consumer.clock import ManualClock
from consumer.errors import DecompressionError, TamperedError, UnknownKeyError
from consumer.replay.seal import Sealer
from consumer.wire.envelope import Envelope, Key, KeyRing, Scheme
from proto.network_security_pb2 import NetworkSecurityEvent

pytestmark = pytest.mark.usefixtures("each_way")

V1: Scheme = "chacha20poly1305-v1"
V0: Scheme = "secretbox-v0"
MIB = 1024 * 1024
PAYLOAD = NetworkSecurityEvent(event_id="e-1", originating_node_id="north").SerializeToString()

both_schemes = pytest.mark.parametrize("scheme", [V1, V0])


def _key(name: str, scheme: Scheme = V1, *, not_after_ns: int | None = None) -> Key:
    return Key(name, scheme, name.encode().ljust(32, b"."), not_after_ns=not_after_ns)


def _envelope(*keys: Key, max_event_bytes: int = MIB) -> Envelope:
    return Envelope(KeyRing(ManualClock(), keys), max_event_bytes=max_event_bytes)


def _header(scheme: Scheme, size: int) -> bytes:
    return size.to_bytes(4, "little" if scheme == V1 else "big")


@both_schemes
def test_a_message_opens_with_its_block_and_its_key(scheme: Scheme) -> None:
    key = _key("a", scheme)
    opened = _envelope(key).open("d", Sealer(key).seal(PAYLOAD))

    assert opened.payload == PAYLOAD
    assert opened.block is not None
    assert lz4.block.decompress(opened.block, uncompressed_size=len(PAYLOAD)) == PAYLOAD
    assert (opened.key_id, opened.scheme) == ("a", scheme)


def test_the_counter_of_the_nonce_is_handed_on() -> None:
    sealer = Sealer(_key("a"), counter=2**40)
    envelope = _envelope(_key("a"))
    counters = [envelope.open("d", sealer.seal(PAYLOAD)).counter for _ in range(3)]
    assert counters == [2**40, 2**40 + 1, 2**40 + 2]


def test_the_older_scheme_has_no_counter() -> None:
    key = _key("a", V0)
    assert _envelope(key).open("d", Sealer(key).seal(PAYLOAD)).counter is None


def test_a_restart_of_the_counter_is_not_refused() -> None:
    envelope = _envelope(_key("a"))
    envelope.open("d", Sealer(_key("a"), counter=1000).seal(PAYLOAD))
    assert envelope.open("d", Sealer(_key("a")).seal(PAYLOAD)).counter == 0


def test_a_protobuf_sent_bare_is_taken_as_it_is() -> None:
    opened = _envelope(_key("a")).open("d", Sealer(_key("a")).encrypt(PAYLOAD))
    assert (opened.payload, opened.block, opened.counter) == (PAYLOAD, None, 0)


def test_the_older_scheme_never_sends_a_protobuf_bare() -> None:
    key = _key("a", V0)
    with pytest.raises(DecompressionError):
        _envelope(key).open("d", Sealer(key).encrypt(PAYLOAD))


@pytest.mark.parametrize(
    "plaintext",
    [b"", b"\x01", b"\xff\xff\xff\xff", bytes(40), NetworkSecurityEvent().SerializeToString()],
    ids=["empty", "one byte", "header only", "zeros", "event without a field"],
)
def test_bytes_that_are_neither_compressed_nor_an_event_are_refused(plaintext: bytes) -> None:
    with pytest.raises(DecompressionError):
        _envelope(_key("a")).open("d", Sealer(_key("a")).encrypt(plaintext))


def test_a_bare_protobuf_above_the_limit_is_refused() -> None:
    event = NetworkSecurityEvent(event_id="e" * 2000).SerializeToString()
    with pytest.raises(DecompressionError):
        _envelope(_key("a"), max_event_bytes=1000).open("d", Sealer(_key("a")).encrypt(event))


@both_schemes
def test_an_event_as_large_as_the_limit_opens_and_one_byte_more_does_not(scheme: Scheme) -> None:
    key = _key("a", scheme)
    envelope, sealer = _envelope(key, max_event_bytes=5000), Sealer(key)

    assert len(envelope.open("d", sealer.seal(bytes(5000))).payload) == 5000
    with pytest.raises(DecompressionError, match="5001 bytes; the limit is 5000"):
        envelope.open("d", sealer.seal(bytes(5001)))


@both_schemes
@pytest.mark.parametrize("size", [2**32 - 1, 17 * MIB, 16 * MIB], ids=["4 GiB", "over", "limit"])
def test_a_size_bomb_is_refused_without_allocating(scheme: Scheme, size: int) -> None:
    key = _key("a", scheme)
    message = Sealer(key).encrypt(
        _header(scheme, size) + lz4.block.compress(b"x", store_size=False)
    )
    envelope = _envelope(key, max_event_bytes=16 * MIB)
    tracemalloc.start()
    try:
        with pytest.raises(DecompressionError, match=f"size header says {size} bytes"):
            envelope.open("d", message)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MIB


@both_schemes
def test_a_block_that_holds_another_size_than_its_header_says_is_refused(scheme: Scheme) -> None:
    key = _key("a", scheme)
    block = lz4.block.compress(bytes(1000), store_size=False)
    for size in (0, 999, 1001):
        with pytest.raises(DecompressionError):
            _envelope(key).open("d", Sealer(key).encrypt(_header(scheme, size) + block))


@both_schemes
def test_lz4_garbage_is_refused(scheme: Scheme) -> None:
    key = _key("a", scheme)
    with pytest.raises(DecompressionError, match="not an LZ4 block of 100 bytes"):
        _envelope(key).open("d", Sealer(key).encrypt(_header(scheme, 100) + b"\xf0" + b"\xff" * 30))


def test_a_message_shorter_than_any_scheme_allows_is_tampered() -> None:
    for length in range(28):
        with pytest.raises(TamperedError, match=f"{length} bytes; the shortest message has 28"):
            _envelope(_key("a"), _key("b", V0)).open("d", bytes(length))


def test_without_a_key_a_message_waits_for_one() -> None:
    ring = KeyRing(ManualClock())
    envelope = Envelope(ring)
    message = Sealer(_key("late")).seal(PAYLOAD)
    with pytest.raises(UnknownKeyError, match="none of 0 keys"):
        envelope.open("d", message)
    generation = ring.generation

    ring.add(_key("late"))

    assert ring.generation > generation
    assert envelope.open("d", message).payload == PAYLOAD


def test_the_key_that_opened_last_is_tried_first_for_each_detector() -> None:
    ring = KeyRing(ManualClock(), [_key("old"), _key("new")])
    envelope = Envelope(ring)
    old, new = Sealer(_key("old")), Sealer(_key("new"))
    envelope.open("north", old.seal(PAYLOAD))
    envelope.open("south", new.seal(PAYLOAD))

    assert envelope._last["north"].candidate.key.key_id == "old"
    assert envelope._last["south"].candidate.key.key_id == "new"
    assert envelope.open("north", old.seal(PAYLOAD)).key_id == "old"


def test_a_detector_may_change_its_key_without_notice() -> None:
    envelope = _envelope(_key("old"), _key("new"))
    for name in ("old", "new", "old", "new"):
        assert envelope.open("d", Sealer(_key(name)).seal(PAYLOAD)).key_id == name


@both_schemes
def test_a_running_detector_keeps_its_key_after_the_registry_gave_out_another(
    scheme: Scheme,
) -> None:
    clock = ManualClock()
    ring = KeyRing(clock, [_key("old", scheme)], grace_s=60)
    envelope = Envelope(ring)
    sealer = Sealer(_key("old", scheme))
    ring.replace([_key("new", scheme)])
    for _ in range(20):
        clock.advance(30)
        assert envelope.open("d", sealer.seal(PAYLOAD)).key_id == "old"


def test_a_key_past_its_end_opens_nothing_more() -> None:
    clock = ManualClock(0)
    envelope = Envelope(KeyRing(clock, [_key("a", not_after_ns=10)], grace_s=0))
    sealer = Sealer(_key("a"))
    envelope.open("d", sealer.seal(PAYLOAD))
    clock.set_ns(10)
    with pytest.raises(UnknownKeyError):
        envelope.open("d", sealer.seal(PAYLOAD))


def test_a_removed_key_opens_nothing_more_even_if_it_opened_last() -> None:
    ring = KeyRing(ManualClock(), [_key("a")])
    envelope, sealer = Envelope(ring), Sealer(_key("a"))
    envelope.open("d", sealer.seal(PAYLOAD))
    ring.remove("a")
    with pytest.raises(UnknownKeyError):
        envelope.open("d", sealer.seal(PAYLOAD))


def test_an_error_does_not_show_the_key() -> None:
    key = _key("a")
    with pytest.raises(UnknownKeyError) as unknown:
        _envelope(key).open("d", bytes(100))
    assert key.secret.hex() not in str(unknown.value)
    assert repr(key.secret) not in str(unknown.value)
