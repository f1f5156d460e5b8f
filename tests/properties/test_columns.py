"""What is compiled says the same as its twin in Python, or leaves the message to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from random import Random
from typing import Any

import lz4.block
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer import columns
from consumer.clock import ManualClock
from consumer.errors import EnvelopeError
from consumer.journal.record import encode_plainly
from consumer.replay.seal import Sealer
from consumer.wire import admission
from consumer.wire.admitted import Admitted, Batch
from consumer.wire.envelope import Envelope, Key, KeyRing
from proto.network_security_pb2 import NetworkSecurityEvent

COMPILED = columns.compiled()
pytestmark = pytest.mark.skipif(COMPILED is None, reason="no C compiler was found at installation")

NOON = 1_499_169_600
KEY = Key("v1", "chacha20poly1305-v1", b"k" * 32)
LIMIT = 5_000


def said(event_id: str, node: str, seconds: int, nanos: int, rest: bytes) -> bytes:
    event = NetworkSecurityEvent(
        event_id=event_id,
        originating_node_id=node,
        event_timestamp={"seconds": seconds, "nanos": nanos},
    )
    return event.SerializeToString() + rest


#: Fields that admission does not ask for, and some that are none.
others = st.sampled_from(
    (
        b"",
        NetworkSecurityEvent(final_classification="BENIGN").SerializeToString(),
        b"\x0a\x01z",  # a second event_id
        b"\x12\x02\x08\x07",  # a second timestamp
        b"\x1a\x00",  # a second node, empty
        b"\x08\x01",  # field 1 as a number
        b"\x23\x24",  # a group
        b"\x25\x01\x02\x03\x04",  # field 4, 32 bits
        b"\x21" + b"\0" * 8,  # field 4, 64 bits
        b"\x20" + b"\xff" * 9 + b"\x01",  # field 4, the largest varint
        b"\x20" + b"\xff" * 9 + b"\x02",  # one that is too large
        b"\x20" + b"\x80" * 10 + b"\x00",  # one that is too long
        b"\xa0\x80\x80\x80\x80\x80\x00\x01",  # a tag that is too long
        b"\x22\x80\x80\x80\x80\x80\x00",  # a length that is too long
        b"\x22\x05ab",  # cut off
        b"\x00\x00",  # field 0
    )
)
texts = st.text(max_size=8) | st.sampled_from(("node-1", "m\u00e9dico", "x" * 1024, "x" * 1025))
usual = st.builds(
    said, texts, texts, st.integers(-1, NOON + 10), st.sampled_from((0, 7, 10**9)), others
)
most = st.integers(-(2**63), 2**63 - 1)
events = usual | st.builds(said, texts, texts, most, st.integers(-(2**31), 2**31 - 1), others)


def changed(payload: bytes, at: int, to: int) -> bytes:
    at %= len(payload) + 1
    return payload[:at] + bytes([to]) + payload[at + 1 :]


payloads = events | st.builds(changed, events, st.integers(0, 99), st.integers(0, 255))


@given(st.lists(payloads, min_size=1, max_size=4), st.booleans())
@example([b""], True)
@example([said("", "n", NOON, 0, b"")], True)
@example([said("a", "n", 2**63 - 1, 0, b"")], True)
def test_marks_of_events_are_those_of_the_twin_or_none(sent: list[bytes], timed: bool) -> None:
    assert COMPILED is not None
    found = COMPILED.marks(sent, timed)
    assert found is None or found == admission.marks(sent, timed)


@given(
    st.lists(
        st.builds(
            said,
            st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True),
            st.from_regex(r"[a-z0-9-]{0,20}", fullmatch=True),
            st.integers(0, 2**33),
            st.integers(0, 10**9 - 1),
            st.just(NetworkSecurityEvent(overall_threat_score=0.5).SerializeToString()),
        ),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
def test_marks_of_ordinary_events_are_not_left_to_the_twin(sent: list[bytes], timed: bool) -> None:
    assert COMPILED is not None
    assert COMPILED.marks(sent, timed) == admission.marks(sent, timed) != None  # noqa: E711 - one chain


def sealed(payload: bytes, size: int | None, damage: int | None, known: bool) -> bytes:
    block = lz4.block.compress(payload, store_size=False)
    plaintext = (len(payload) if size is None else size).to_bytes(4, "little") + block
    key = KEY if known else Key("other", "chacha20poly1305-v1", b"o" * 32)
    message = bytearray(Sealer(key, counter=len(payload)).encrypt(plaintext))
    if damage is not None:
        message[damage % len(message)] ^= 1
    return bytes(message)


messages = st.builds(
    sealed,
    st.binary(max_size=80) | st.sampled_from((b"ab" * 3_000, b"x" * LIMIT)),
    st.none() | st.none() | st.sampled_from((0, 1, LIMIT + 1, 2**31, 2**32 - 1)),
    st.none() | st.none() | st.integers(0, 99),
    st.sampled_from((True, True, True, False)),
) | st.binary(max_size=40)


@given(st.lists(messages, max_size=5))
def test_what_is_opened_is_what_the_twin_opens(sent: list[bytes]) -> None:
    assert COMPILED is not None
    payloads, blocks, counters = COMPILED.open_v1(sent, KEY.secret, LIMIT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "compiled", lambda: None)
        twin = Envelope(KeyRing(ManualClock(), [KEY]), max_event_bytes=LIMIT)
        expected = []
        for message in sent:
            try:
                opened = twin.open("d", message)
            except EnvelopeError:
                break
            if opened.block is None:
                break
            expected.append((opened.payload, opened.block, opened.counter))
    # It may stop before what the twin can do, but only at what is not ordinary: nothing in it.
    found = list(zip(payloads, blocks, counters, strict=True))
    assert found == expected[: len(found)]
    assert all(payload == b"" for payload, _, _ in expected[len(found) : len(found) + 1])


def test_what_was_compiled_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "VERSION", columns.VERSION + 1)
    assert columns.load() is None


def test_a_library_that_keeps_a_function_to_itself_leaves_python_at_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(columns, "_FUNCTIONS", (("zlib", "no_such_function"),))
    assert columns.load() is None


def some_kilobytes(random: Random) -> bytes:
    return random.randbytes(random.randrange(5_000))


int64 = st.integers(-(2**63), 2**63 - 1)
admitted = st.builds(
    Admitted,
    st.just(date(2017, 7, 4)),
    int64,
    st.booleans(),
    st.binary(min_size=16, max_size=16),
    int64,
    st.binary(max_size=99) | st.randoms().map(some_kilobytes),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)


@given(st.lists(admitted, min_size=1, max_size=5))
def test_records_are_those_of_the_twin(given_events: list[Admitted]) -> None:
    assert COMPILED is not None
    batch = Batch.of(given_events)
    assert COMPILED.encode(*batch.columns()) == encode_plainly(given_events)


@pytest.mark.parametrize("first", range(0, 5_000, 500))
def test_a_record_of_any_length_has_the_checksum_of_zlib(first: int) -> None:
    assert COMPILED is not None
    for size in range(first, first + 500):
        batch = Batch.of([WHOLE._replace(payload=Random(size).randbytes(size))])
        assert COMPILED.encode(*batch.columns()) == encode_plainly(batch)


WHOLE = Admitted(date(2017, 7, 4), 0, True, b"d" * 16, 0, b"", 0, False)


@pytest.mark.parametrize(
    "broken",
    [
        {"time_ns": 2**63},
        {"arrival_ns": -(2**63) - 1},
        {"raw_size": 2**32},
        {"raw_size": -1},
        {"digest": b"d" * 15},
        {"payload": "text"},
        {"payload": None},
    ],
)
def test_what_does_not_fit_into_a_record_is_left_to_the_twin(broken: dict[str, Any]) -> None:
    assert COMPILED is not None
    batch = Batch.of([WHOLE, WHOLE._replace(**broken)])
    assert COMPILED.encode(*batch.columns()) is None


def test_columns_of_different_lengths_are_a_fault_of_the_caller() -> None:
    assert COMPILED is not None
    *columns_of_one, _ = Batch.of([WHOLE]).columns()
    with pytest.raises(ValueError, match="as many entries"):
        COMPILED.encode(*columns_of_one, [])
    with pytest.raises(TypeError):
        COMPILED.encode(*columns_of_one)


@pytest.mark.parametrize("sent", [[b"x" * 40, "text"], [bytearray(40)], [None]])
def test_only_bytes_are_opened_or_read(sent: Sequence[Any]) -> None:
    assert COMPILED is not None
    with pytest.raises(TypeError):
        COMPILED.open_v1(sent, KEY.secret, LIMIT)
    with pytest.raises(TypeError):
        COMPILED.marks(sent[-1:], True)


def test_a_key_of_another_length_is_a_fault_of_the_caller() -> None:
    assert COMPILED is not None
    with pytest.raises(ValueError, match="32 bytes"):
        COMPILED.open_v1([b"x" * 40], b"short", LIMIT)
