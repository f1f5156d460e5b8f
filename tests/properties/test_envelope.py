"""What holds of the envelope for any payload and any damage."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.clock import ManualClock
from consumer.errors import DecompressionError, TamperedError, UnknownKeyError
from consumer.replay.seal import Sealer
from consumer.wire.envelope import Envelope, Key, KeyRing, Scheme

pytestmark = pytest.mark.usefixtures("each_way")

KEYS: dict[Scheme, Key] = {
    "chacha20poly1305-v1": Key("v1", "chacha20poly1305-v1", b"k" * 32),
    "secretbox-v0": Key("v0", "secretbox-v0", b"k" * 32),
}
LIMIT = 100_000

schemes = st.sampled_from(sorted(KEYS))
payloads = st.one_of(
    st.binary(max_size=3000),
    # What compresses well, up to the limit.
    st.builds(
        lambda part, times: (part * times)[:LIMIT], st.binary(max_size=40), st.integers(0, 9000)
    ),
)


def _envelope() -> Envelope:
    return Envelope(KeyRing(ManualClock(), KEYS.values()), max_event_bytes=LIMIT)


@given(scheme=schemes, payload=payloads, counter=st.integers(0, 2**64 - 1))
def test_what_is_sealed_opens_to_the_same_bytes(
    scheme: Scheme, payload: bytes, counter: int
) -> None:
    opened = _envelope().open("d", Sealer(KEYS[scheme], counter=counter).seal(payload))

    assert opened.payload == payload
    assert opened.counter == (counter if scheme == "chacha20poly1305-v1" else None)


@settings(max_examples=20)
@given(scheme=schemes, payload=st.binary(max_size=60))
def test_no_message_opens_with_any_one_bit_flipped(scheme: Scheme, payload: bytes) -> None:
    message = Sealer(KEYS[scheme]).seal(payload)
    envelope = _envelope()
    for bit in range(8 * len(message)):
        flipped = bytearray(message)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(UnknownKeyError):
            envelope.open("d", bytes(flipped))


@given(scheme=schemes, payload=st.binary(max_size=300), data=st.data())
def test_a_truncated_message_is_refused(
    scheme: Scheme, payload: bytes, data: st.DataObject
) -> None:
    message = Sealer(KEYS[scheme]).seal(payload)
    length = data.draw(st.integers(0, len(message) - 1))

    with pytest.raises((TamperedError, UnknownKeyError)):
        _envelope().open("d", message[:length])


@given(message=st.binary(max_size=400))
def test_noise_is_refused(message: bytes) -> None:
    with pytest.raises((TamperedError, UnknownKeyError)):
        _envelope().open("d", message)


@given(scheme=schemes, plaintext=st.binary(max_size=400))
def test_a_plaintext_that_a_keyholder_made_up_opens_or_is_refused_within_the_limit(
    scheme: Scheme, plaintext: bytes
) -> None:
    with suppress(DecompressionError):
        assert len(_envelope().open("d", Sealer(KEYS[scheme]).encrypt(plaintext)).payload) <= LIMIT
