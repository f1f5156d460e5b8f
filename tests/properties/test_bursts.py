"""A burst is only a faster way: every message gets the answer that it would get alone."""

from __future__ import annotations

from typing import Literal
from zoneinfo import ZoneInfo

import lz4.block
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.clock import ManualClock
from consumer.errors import EnvelopeError
from consumer.replay.seal import Sealer
from consumer.wire.admission import Admission, Refused
from consumer.wire.admitted import Admitted
from consumer.wire.envelope import Envelope, Key, KeyRing
from proto.network_security_pb2 import NetworkSecurityEvent

pytestmark = pytest.mark.usefixtures("each_way")

UTC = ZoneInfo("UTC")
NOON = 1_499_169_600
KEYS = (
    Key("v1", "chacha20poly1305-v1", b"k" * 32),
    Key("next", "chacha20poly1305-v1", b"n" * 32),
    Key("v0", "secretbox-v0", b"k" * 32),
)
STRANGER = Key("other", "chacha20poly1305-v1", b"o" * 32)
SEALERS = tuple(Sealer(key) for key in (*KEYS, STRANGER))
#: Where one byte of a plaintext is changed before it is sealed; None for nowhere.
damages = st.none() | st.integers(0, 40)


def _message(
    sealer: Sealer, payload: bytes, order: Literal["little", "big"], cut: int, damage: int | None
) -> bytes:
    size = len(payload).to_bytes(4, order)
    plaintext = bytearray(size + lz4.block.compress(payload, store_size=False))
    if damage is not None and damage < len(plaintext):
        plaintext[damage] ^= 0x41
    return sealer.encrypt(bytes(plaintext))[cut:]


# Ordinary ones, and one in a while that is not.
stamps = st.sampled_from((NOON, NOON + 1, NOON + 86_400)) | st.integers(-(2**62), 2**62)
events = st.builds(
    lambda event_id, seconds, nanos, node: NetworkSecurityEvent(
        event_id=event_id,
        originating_node_id=node,
        event_timestamp={"seconds": seconds, "nanos": nanos},
    ).SerializeToString(),
    st.sampled_from(("a", "b", "c", "")),
    stamps,
    st.sampled_from((0, 5, 999_999_999, -1, 10**9)),
    st.sampled_from(("node", "")),
)
messages = st.builds(
    _message,
    st.sampled_from(SEALERS),
    st.binary(max_size=200) | st.just(b"event " * 50),
    st.sampled_from(("little", "big")),
    st.sampled_from((0, 0, 0, 0, 1, 500)),
    damages,
)
bare = st.builds(lambda sealer, event: sealer.encrypt(event), st.sampled_from(SEALERS), events)

payloads = st.lists(
    st.tuples(
        events | st.binary(max_size=30),
        st.none() | st.binary(min_size=1, max_size=80),
        st.sampled_from((NOON, NOON + 60, NOON + 90_000)),
    ),
    max_size=6,
)


@given(st.lists(messages | bare, max_size=8))
def test_a_burst_opens_as_its_messages_do_one_by_one(burst: list[bytes]) -> None:
    alone = Envelope(KeyRing(ManualClock(), KEYS))
    expected: list[object] = []
    for message in burst:
        try:
            opened = alone.open("d", message)
        except EnvelopeError as error:
            expected.append((type(error), str(error)))
        else:
            expected.append((opened.payload, opened.block, opened.counter))

    together = Envelope(KeyRing(ManualClock(), KEYS)).open_all("d", burst)

    held = iter(zip(together.payloads, together.blocks, together.counters, strict=True))
    found: list[object] = []
    for place in range(len(burst)):
        refused = together.refused.get(place)
        found.append(next(held) if refused is None else (type(refused), str(refused)))
    assert found == expected
    assert together.schemes.total() == len(together.payloads)


@given(payloads, st.booleans(), st.booleans(), st.booleans())
def test_a_burst_is_admitted_as_its_events_are_one_by_one(
    burst: list[tuple[bytes, bytes | None, int]],
    event_clock: bool,
    boot_clock: bool,
    timed_identity: bool,
) -> None:
    def admission() -> Admission:
        return Admission(
            UTC,
            event_clock=event_clock,
            boot_clock=boot_clock,
            timed_identity=timed_identity,
            is_retired=lambda day: day.day == 5,
        )

    sent = [(payload, block, 10**9 * at) for payload, block, at in burst]
    alone, together = admission(), admission()
    expected: list[Admitted | Refused] = [alone.admit(*one) for one in sent]

    found = together.admit_all(
        [payload for payload, _, _ in sent],
        [block for _, block, _ in sent],
        [arrival_ns for _, _, arrival_ns in sent],
    )

    assert list(found) == expected
    assert together.facts() == alone.facts()
    assert together.watermark_ns == alone.watermark_ns
