from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.backoff import backoff


@given(st.integers(0, 2000), st.floats(0.001, 10), st.floats(1, 1000), st.integers())
def test_a_pause_lies_between_zero_and_its_ceiling(
    attempt: int, base_s: float, factor: float, seed: int
) -> None:
    cap_s = base_s * factor
    pause = backoff(attempt, base_s=base_s, cap_s=cap_s, random=Random(seed))
    assert 0 <= pause <= min(cap_s, base_s * 2.0 ** min(attempt, 64))


def test_the_ceiling_doubles_until_the_cap() -> None:
    class Highest(Random):
        def random(self) -> float:
            return 1.0

    pauses = [backoff(n, base_s=0.5, cap_s=6.0, random=Highest()) for n in range(6)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 6.0, 6.0]


def test_pauses_are_spread_over_the_whole_range() -> None:
    random = Random(7)
    pauses = [backoff(3, base_s=1.0, cap_s=60.0, random=random) for _ in range(500)]
    assert min(pauses) < 0.5
    assert max(pauses) > 7.5


def test_the_same_seed_gives_the_same_pauses() -> None:
    one, other = Random(3), Random(3)
    assert [backoff(n, base_s=1, cap_s=9, random=one) for n in range(9)] == [
        backoff(n, base_s=1, cap_s=9, random=other) for n in range(9)
    ]


@pytest.mark.parametrize(("attempt", "base_s", "cap_s"), [(-1, 1, 2), (0, 0, 1), (0, 2, 1)])
def test_impossible_bounds_are_refused(attempt: int, base_s: float, cap_s: float) -> None:
    with pytest.raises(ValueError, match=r"attempt|base_s"):
        backoff(attempt, base_s=base_s, cap_s=cap_s, random=Random(0))
