"""Keys and the ring of candidates."""

from __future__ import annotations

import threading

import pytest

from consumer.clock import ManualClock
from consumer.errors import ConfigurationError
from consumer.wire.keys import (
    ARTIFACT_CONTEXT,
    Key,
    KeyRing,
    derive_key,
    key_from_hex,
    key_from_seed,
)

SEED = bytes(range(32))
S = 1_000_000_000


def _key(name: str, *, not_before_ns: int | None = None, not_after_ns: int | None = None) -> Key:
    secret = name.encode().ljust(32, b".")
    return Key(name, "chacha20poly1305-v1", secret, not_before_ns, not_after_ns)


def _names(ring: KeyRing) -> list[str]:
    return [candidate.key.key_id for candidate in ring.candidates()]


def test_each_context_has_its_own_key() -> None:
    assert key_from_seed("a", SEED).secret != key_from_seed("a", SEED, ARTIFACT_CONTEXT).secret


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ConfigurationError, match=f"{length} bytes; a seed has exactly 32"):
        derive_key(bytes(length), "context")


def test_hex_digits_count_in_either_case() -> None:
    assert key_from_hex("a", "AB" * 32) == key_from_hex("a", "ab" * 32)


@pytest.mark.parametrize("digits", ["", "ab" * 31, "ab" * 33, "xy" * 32])
def test_bad_hex_is_refused_without_repeating_it(digits: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        key_from_hex("site-key", digits)
    assert "site-key" in str(refused.value)
    assert not digits or digits not in str(refused.value)


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="unknown scheme 'rot13'"):
        Key("a", "rot13", SEED)  # type: ignore[arg-type] # the registry's text is not checked


def test_a_key_does_not_show_its_secret() -> None:
    key = key_from_hex("a", SEED.hex())
    assert repr(SEED) not in repr(key)
    assert SEED.hex() not in repr(key)


def test_newer_keys_come_first() -> None:
    ring = KeyRing(ManualClock(), [_key("old")])
    ring.add(_key("new"))
    assert _names(ring) == ["new", "old"]


def test_keys_that_arrive_together_are_ordered_by_not_before() -> None:
    keys = [_key("b", not_before_ns=20), _key("c", not_before_ns=30), _key("a")]
    assert _names(KeyRing(ManualClock(), keys)) == ["c", "b", "a"]


def test_a_key_whose_time_has_not_come_is_tried_all_the_same() -> None:
    ring = KeyRing(ManualClock(0), [_key("early", not_before_ns=10 * S)])
    assert _names(ring) == ["early"]


def test_a_key_is_dropped_when_not_after_and_the_grace_time_are_over() -> None:
    clock = ManualClock(0)
    ring = KeyRing(clock, [_key("a", not_after_ns=100 * S), _key("b")], grace_s=60)

    clock.set_ns(160 * S - 1)
    assert _names(ring) == ["b", "a"]
    clock.set_ns(160 * S)
    assert _names(ring) == ["b"]


def test_a_key_past_not_after_is_dropped_even_while_it_opens_messages() -> None:
    clock = ManualClock(0)
    ring = KeyRing(clock, [_key("a", not_after_ns=100 * S)], grace_s=60)
    ring.replace([])
    clock.advance(50)
    for _ in range(11):
        for candidate in ring.candidates():
            candidate.used = True
        clock.advance(10)
    assert _names(ring) == []


def test_a_key_that_is_no_longer_listed_is_kept_for_the_grace_time() -> None:
    clock = ManualClock()
    ring = KeyRing(clock, [_key("old")], grace_s=60)
    ring.replace([_key("new")])

    clock.advance(59)
    assert _names(ring) == ["new", "old"]
    clock.advance(1)
    assert _names(ring) == ["new"]


def test_a_retired_key_stays_while_it_opens_messages() -> None:
    clock = ManualClock()
    ring = KeyRing(clock, [_key("old")], grace_s=60)
    ring.replace([])
    for _ in range(10):
        (candidate,) = ring.candidates()
        candidate.used = True
        clock.advance(60)

    assert _names(ring) == ["old"]
    clock.advance(60)
    assert _names(ring) == []


def test_setting_the_clock_forward_does_not_drop_a_retired_key() -> None:
    clock = ManualClock(0)
    ring = KeyRing(clock, [_key("old")], grace_s=60)
    ring.replace([])
    clock.set_ns(1_700_000_000 * S)
    assert _names(ring) == ["old"]


def test_a_retired_key_that_is_listed_again_stays_and_is_newest() -> None:
    clock = ManualClock()
    ring = KeyRing(clock, [_key("a"), _key("b")], grace_s=60)
    ring.replace([_key("b")])
    ring.replace([_key("a"), _key("b")])
    clock.advance(1000)
    assert _names(ring) == ["a", "b"]


def test_a_removed_key_is_no_candidate_at_once() -> None:
    ring = KeyRing(ManualClock(), [_key("a"), _key("b")])
    ring.remove("a")
    assert _names(ring) == ["b"]


def test_the_generation_grows_with_every_change_and_only_then() -> None:
    ring = KeyRing(ManualClock(), [_key("a")])
    seen = [ring.generation]
    ring.add(_key("b"))
    seen.append(ring.generation)
    ring.replace([_key("b")])
    seen.append(ring.generation)
    ring.remove("b")
    seen.append(ring.generation)
    assert seen == sorted(set(seen))

    ring.remove("unknown")
    assert ring.generation == seen[-1]


def test_listing_the_same_keys_again_changes_nothing() -> None:
    ring = KeyRing(ManualClock(), [_key("a"), _key("b")])
    before, generation = ring.candidates(), ring.generation
    ring.replace([_key("a"), _key("b")])
    assert ring.candidates() == before
    assert ring.generation == generation


def test_a_key_can_be_given_another_end() -> None:
    clock = ManualClock(0)
    ring = KeyRing(clock, [_key("a")], grace_s=0)
    ring.replace([_key("a", not_after_ns=5 * S)])
    clock.set_ns(5 * S)
    assert _names(ring) == []


def test_readers_see_a_whole_set_of_keys_while_it_is_replaced() -> None:
    sets = {letter: [_key(f"{letter}0"), _key(f"{letter}1")] for letter in "ab"}
    ring = KeyRing(ManualClock(), sets["a"], grace_s=0)
    stop = threading.Event()
    torn: list[list[str]] = []

    def read() -> None:
        while not stop.is_set():
            names = _names(ring)
            if names not in (["a1", "a0"], ["b1", "b0"]):
                torn.append(names)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(200):
        ring.replace(sets["b"])
        ring.replace(sets["a"])
    stop.set()
    reader.join()
    assert torn == []
