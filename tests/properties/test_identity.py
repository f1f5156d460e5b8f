from hypothesis import given
from hypothesis import strategies as st

from consumer.wire.identity import DIGEST_BYTES, identity_digest

# What the wire can carry: an int64 of seconds and an int32 of nanoseconds.
timestamps = st.integers(-(2**63) * 10**9 - 2**31, 2**63 * 10**9 + 2**31)
# Few letters, so that different parts often join to the same text.
words = st.text("ab", max_size=4) | st.text(max_size=30)
triples = st.tuples(words, words, timestamps | st.integers(-2, 2))


@given(triples)
def test_a_repeat_has_the_same_digest(triple: tuple[str, str, int]) -> None:
    assert identity_digest(*triple) == identity_digest(*triple)
    assert len(identity_digest(*triple)) == DIGEST_BYTES


@given(triples, triples)
def test_different_events_have_different_digests(
    one: tuple[str, str, int], other: tuple[str, str, int]
) -> None:
    assert (identity_digest(*one) == identity_digest(*other)) is (one == other)


@given(st.text("ab", min_size=1, max_size=6), st.integers(0, 6), st.integers(0, 6))
def test_the_place_where_node_ends_and_id_begins_counts(text: str, one: int, other: int) -> None:
    one, other = min(one, len(text)), min(other, len(text))
    digests = [identity_digest(text[:at], text[at:], 7) for at in (one, other)]
    assert (digests[0] == digests[1]) is (one == other)


@given(words, timestamps, st.binary(max_size=20), st.binary(max_size=20))
def test_content_counts_where_there_is_no_id(
    node: str, timestamp_ns: int, one: bytes, other: bytes
) -> None:
    bare = identity_digest(node, "", timestamp_ns)
    first = identity_digest(node, "", timestamp_ns, content=one)
    second = identity_digest(node, "", timestamp_ns, content=other)
    assert (first == second) is (one == other)
    assert bare not in {first, second}
