"""Counting who was seen with what: exact, whatever the order, in bounded memory."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed.distinct import address_value
from embed.pair_counts import PairCounts
from embed.values import IPV4, Values

Pairs = list[tuple[int, int]]


def texts(values: np.ndarray) -> list[str]:
    return [str(value) for value in values.tolist()]


def counted(pairs: Pairs, cut: int, *, most_pairs: int, scratch: Path | None = None) -> PairCounts:
    counts = PairCounts(most_pairs=most_pairs, scratch=scratch)
    for start in range(0, len(pairs), cut):
        part = np.array(pairs[start : start + cut], dtype=np.int64)
        counts.add(part[:, 0], part[:, 1])
    return counts


def tops(counts: PairCounts, most: int) -> dict[int, list[tuple[int, int]]]:
    found: dict[int, list[tuple[int, int]]] = {}
    for top in counts.top(most, texts):
        for group, value, count in zip(*(part.tolist() for part in top), strict=True):
            found.setdefault(group, []).append((value, count))
    counts.close()
    return found


def expected(pairs: Pairs, most: int) -> dict[int, list[tuple[int, int]]]:
    by_group: dict[int, Counter[int]] = {}
    for group, value in pairs:
        by_group.setdefault(group, Counter())[value] += 1
    return {
        group: sorted(seen.items(), key=lambda item: (-item[1], str(item[0])))[:most]
        for group, seen in by_group.items()
    }


@given(
    pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), min_size=1, max_size=300),
    cut=st.integers(1, 50),
    most_pairs=st.integers(1, 60),
    most=st.integers(1, 5),
)
def test_the_most_frequent_values_of_each_group_are_exact_however_little_is_held(
    pairs: Pairs, cut: int, most_pairs: int, most: int
) -> None:
    assert tops(counted(pairs, cut, most_pairs=most_pairs), most) == expected(pairs, most)


def test_what_is_too_much_for_memory_goes_to_one_file_in_the_scratch_folder(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    pairs = list(zip(*draw.integers(0, 1000, (2, 5000)).tolist(), strict=True))
    counts = counted(pairs, 100, most_pairs=300, scratch=tmp_path)
    assert counts._held <= 400
    assert len(counts._runs) > 5
    # Unnamed: nothing is left behind, whatever happens.
    assert list(tmp_path.iterdir()) == []
    assert tops(counts, 3) == expected(pairs, 3)


def test_nothing_counted_gives_nothing() -> None:
    assert tops(PairCounts(), 5) == {}


@pytest.mark.parametrize("address", ["0.0.0.1", "10.0.0.7", "203.0.113.255", "255.255.255.255"])
def test_an_ipv4_address_is_its_own_number_and_takes_no_memory(address: str) -> None:
    values = Values(most=0)
    numbers = values.addresses(np.array([address_value(address)]), [address])
    assert numbers[0] < IPV4
    assert values.texts(numbers) == [address]


def test_other_texts_come_back_as_they_were_written() -> None:
    values = Values()
    written = ["::1", "0:0::1", "not an address", "", "DDOS"]
    numbers = values.addresses(np.array([address_value(text) for text in written]), written)
    assert values.texts(numbers) == written
    assert values.number("DDOS") == numbers[4]


def test_texts_beyond_the_limit_are_not_numbered() -> None:
    values = Values(most=2)
    assert [values.number(text) for text in "abcab"] == [IPV4, IPV4 + 1, -1, IPV4, IPV4 + 1]
