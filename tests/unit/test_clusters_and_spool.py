from pathlib import Path

import numpy as np
import pytest

from embed.clusters import LeaderClusters
from embed.pooling import normalise
from embed.rows import RowBlock, RowFacts
from embed.spool import RowSpool
from embed.top_counts import KEEP, PRUNE_AT, TopCounts


def units(count: int, size: int = 32, seed: int = 0) -> np.ndarray:
    return normalise(np.random.default_rng(seed).standard_normal((count, size)))


def near(centre: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((count, len(centre))) * 0.01
    return normalise(centre + noise)


def test_vectors_that_are_near_share_a_group() -> None:
    centres = units(3)
    clusters = LeaderClusters(32, most=10, near=0.9)
    placed = clusters.add(np.vstack([near(centre, 5, seed=i) for i, centre in enumerate(centres)]))
    assert placed.groups.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert clusters.counts.tolist() == [5, 5, 5]
    assert (clusters.vectors() * centres).sum(1).min() > 0.99


def test_every_member_has_a_part_in_its_prototype() -> None:
    centre = units(1)[0]
    members = near(centre, 1000)
    one, other = LeaderClusters(32, most=4, near=0.5), LeaderClusters(32, most=4, near=0.5)
    one.add(members)
    members = members.copy()
    members[777] = normalise(members[777] + 0.01)[0]
    other.add(members)
    assert one.vectors().tobytes() != other.vectors().tobytes()


def test_there_are_never_more_groups_than_allowed_and_no_vector_is_lost() -> None:
    clusters = LeaderClusters(32, most=8, near=0.99)
    for seed in range(20):
        placed = clusters.add(units(100, seed=seed))
        assert len(clusters) <= 8
        assert placed.groups.max() < len(clusters)
    assert clusters.counts.sum() == 2000


def test_what_comes_late_finds_a_place_of_its_own() -> None:
    clusters = LeaderClusters(32, most=16, near=0.999)
    early = near(units(1)[0], 500)
    clusters.add(early)
    late = -early[:1]
    placed = clusters.add(late)
    assert clusters.counts[placed.groups[0]] == 1
    assert float((clusters.vectors()[placed.groups[0]] * late[0]).sum()) == pytest.approx(1.0)


def test_merging_says_where_each_earlier_group_went() -> None:
    clusters = LeaderClusters(32, most=4, near=0.999)
    first = units(4)
    clusters.add(first)
    placed = clusters.add(units(1, seed=5))
    assert placed.merged is not None
    assert len(placed.merged) == 4
    assert set(placed.merged.tolist()) | set(placed.groups.tolist()) == set(range(len(clusters)))


def test_groups_are_the_same_every_time() -> None:
    found = []
    for _ in range(2):
        clusters = LeaderClusters(32, most=8, near=0.9)
        for seed in range(5):
            clusters.add(units(50, seed=seed))
        found.append(clusters.vectors().tobytes())
    assert found[0] == found[1]


def fact(number: int) -> RowFacts:
    label = f"event {number} \u2028 \ud7ff"
    return RowFacts("event", label, 1, number, number, {"score": None, "nested": {"a": [1]}})


def test_a_spool_gives_rows_back_in_order_and_leaves_nothing(tmp_path: Path) -> None:
    spool = RowSpool(4, scratch=tmp_path)
    vectors = np.arange(8400, dtype=np.float32).reshape(2100, 4)
    for start in range(0, 2100, 700):
        facts = [fact(number) for number in range(start, start + 700)]
        spool.add(vectors[start : start + 700], facts)
    blocks = list(spool.blocks())
    assert [len(block.facts) for block in blocks] == [1024, 1024, 52]
    assert np.vstack([block.vectors for block in blocks]).tobytes() == vectors.tobytes()
    assert [f for block in blocks for f in block.facts] == [fact(n) for n in range(2100)]
    assert list(tmp_path.iterdir()) == []


def test_a_block_needs_one_vector_per_fact() -> None:
    with pytest.raises(ValueError, match="one vector per fact"):
        RowBlock(np.zeros((2, 4), np.float32), [fact(1)])


def test_counts_are_exact_while_values_are_few() -> None:
    counts = TopCounts()
    for value in ["a", "b", "a", "c", "a", "b"]:
        counts.add(value)
    assert counts.shown(2) == {"a": 3, "b": 2}
    assert counts.first() == "a"


def test_counts_stay_bounded_and_their_total_is_what_was_seen() -> None:
    counts = TopCounts()
    for number in range(3 * PRUNE_AT):
        counts.add("often")
        counts.add(f"once {number:06d}")
    assert len(counts._counts) < PRUNE_AT
    assert counts.others + sum(counts._counts.values()) == 6 * PRUNE_AT
    assert counts.shown(1) == {"often": 3 * PRUNE_AT}
    assert KEEP < PRUNE_AT


def test_counts_of_two_groups_add_up() -> None:
    one, other = TopCounts(), TopCounts()
    for counts, values in ((one, "aab"), (other, "bc")):
        for value in values:
            counts.add(value)
    one.take(other)
    assert one.shown() == {"a": 2, "b": 2, "c": 1}
