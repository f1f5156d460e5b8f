from datetime import date

import pytest

from index.fusion import fuse_days, reciprocal_rank, weighted_mean
from tests.index_samples import MONDAY, TUESDAY, WEDNESDAY


def test_an_item_high_in_two_rankings_beats_the_first_of_one() -> None:
    fused = reciprocal_rank({"words": ["a", "b", "c"], "numbers": ["d", "b", "e"]})
    assert fused[0].item == "b"
    assert fused[0].score == pytest.approx(1 / 62 + 1 / 62)
    assert dict(fused[0].ranks) == {"words": 2, "numbers": 2}
    assert {entry.item for entry in fused} == set("abcde")


def test_equal_items_keep_the_order_in_which_they_were_first_shown() -> None:
    fused = reciprocal_rank({"one": ["a", "b"], "two": ["b", "a"], "three": []})
    assert [entry.item for entry in fused] == ["a", "b"]


def test_a_repeated_item_counts_once_at_its_best_place() -> None:
    (entry,) = reciprocal_rank({"one": ["a", "a", "a"]})
    assert entry.score == pytest.approx(1 / 61)


def test_a_weight_moves_a_ranking_up() -> None:
    rankings = {"one": ["a"], "two": ["b"]}
    assert [entry.item for entry in reciprocal_rank(rankings, weights={"two": 2})] == ["b", "a"]


def test_a_day_scores_the_weighted_mean_of_its_similarities() -> None:
    fused = fuse_days(
        {"timeseries": {MONDAY: 0.9}, "semantic": {MONDAY: 0.6}, "attack": {MONDAY: 0.3}},
        weights={"timeseries": 2, "attack": 1},
    )
    assert fused[0].score == pytest.approx((2 * 0.9 + 0.6 + 0.3) / 4)
    assert dict(fused[0].by_index) == {"timeseries": 0.9, "semantic": 0.6, "attack": 0.3}
    assert fused[0].missing == ()


def test_a_missing_index_is_left_out_of_the_mean_and_named() -> None:
    fused = {
        entry.day: entry
        for entry in fuse_days(
            {"timeseries": {MONDAY: 0.9, TUESDAY: 0.5}, "semantic": {MONDAY: 0.7}, "attack": None}
        )
    }
    assert fused[MONDAY].score == pytest.approx(0.8)
    assert fused[MONDAY].missing == ("attack",)
    assert fused[TUESDAY].score == pytest.approx(0.5)
    assert fused[TUESDAY].missing == ("semantic", "attack")


def test_days_come_most_alike_first_and_equals_oldest_first() -> None:
    scores: dict[date, float] = {WEDNESDAY: 0.5, TUESDAY: 0.9, MONDAY: 0.5}
    assert [entry.day for entry in fuse_days({"semantic": scores})] == [TUESDAY, MONDAY, WEDNESDAY]


def test_an_index_of_weight_nothing_is_shown_and_does_not_count() -> None:
    (entry,) = fuse_days(
        {"semantic": {MONDAY: 0.8}, "attack": {MONDAY: -1.0, TUESDAY: 1.0}}, weights={"attack": 0}
    )
    assert entry.score == pytest.approx(0.8)
    assert entry.by_index["attack"] == -1.0


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="attack is -1"):
        fuse_days({"attack": {MONDAY: 1.0}}, weights={"attack": -1})


def test_nothing_fuses_to_nothing() -> None:
    assert fuse_days({"semantic": None, "attack": {}}) == []
    assert reciprocal_rank({}) == []


def test_scores_are_joined_by_their_weights() -> None:
    joined = weighted_mean(
        {"meaning": {"a": 0.9, "b": 0.6}, "words": {"b": 0.9, "c": 0.3}},
        {"meaning": 2.0, "words": 1.0},
    )
    assert joined == pytest.approx({"a": 0.6, "b": 0.7, "c": 0.1})


def test_a_mean_of_scores_stays_in_their_range() -> None:
    joined = weighted_mean({"one": {"a": 1.0}, "two": {"a": 1.0}}, {"one": 5.0, "two": 0.1})
    assert joined == pytest.approx({"a": 1.0})
