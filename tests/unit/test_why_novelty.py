from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from consumer.questions.novelty import DayNovelty, novelties, standing
from consumer.questions.why import explain
from embed.pooling import normalise
from embed.rows import Vectors
from index.chunks import StoredRow

FIRST = date(2017, 7, 3)


def row(index: str, detail: dict[str, Any]) -> StoredRow:
    return StoredRow(index, date(2017, 7, 4), 1, 0, "day", "2017-07-04", 1, 0, 1, detail)


def series(events: float, busiest: int = 9) -> dict[str, Any]:
    hours = [0.0] * 24
    hours[busiest] = events
    one = {"total": events, "hours": hours}
    return {
        "series": dict.fromkeys(("events", "bytes", "packets", "sources", "ports", "alerts"), one)
    }


def test_a_shared_attack_comes_first_among_the_reasons() -> None:
    day = {"attack": row("attack", {"categories": {"DDOS": 90, "NORMAL": 5}})}
    other = {"attack": row("attack", {"categories": {"DDOS": 40, "NORMAL": 900}})}
    assert explain(day, other) == ["flagged DDOS on both: 90 and 40 events"]


def test_an_attack_of_one_day_only_is_said_with_its_side() -> None:
    day = {"attack": row("attack", {"categories": {"RANSOMWARE": 3}})}
    other = {"attack": row("attack", {"categories": {}})}
    assert explain(day, other) == ["flagged RANSOMWARE only on this day: 3 events"]


def test_a_much_larger_volume_is_said_as_a_ratio() -> None:
    day = {"timeseries": row("timeseries", series(1000))}
    other = {"timeseries": row("timeseries", series(99, busiest=22))}
    reasons = explain(day, other)
    assert "10 times the events of the other day" in reasons
    assert explain(other, day)[0] == "the other day has 10 times the events"


def test_alike_days_say_in_what_they_are_alike() -> None:
    day = {"timeseries": row("timeseries", series(1000))}
    reasons = explain(day, day)
    assert reasons[0].startswith("about as many events")
    assert reasons[1] == "both busiest in the hour from 09:00"


def test_shared_behaviours_are_quoted_with_their_counts() -> None:
    text = "A port scan, at night. The detector says benign."
    texts = {"top_flagged": [{"text": text, "count": 7}], "top": []}
    day = {"semantic": row("semantic", texts)}
    assert explain(day, day) == ["both raised alarms for: A port scan, at night (7 and 7 events)"]


def test_there_is_always_a_reason() -> None:
    assert explain({}, {})


def asked(**rows: Vectors) -> list[DayNovelty]:
    """Novelty of consecutive days whose rows are given by index."""
    return novelties(
        {
            name: ([FIRST + timedelta(days=n) for n in range(len(vectors))], vectors)
            for name, vectors in rows.items()
        }
    )


def around(axis: int, count: int, seed: int, spread: float = 0.1) -> Vectors:
    """Rows about one axis of sixteen."""
    rows = spread * np.random.default_rng(seed).standard_normal((count, 16))
    rows[:, axis] += 1.0
    return normalise(rows)


def test_the_first_day_has_no_novelty_and_the_second_has_none_to_show() -> None:
    first, second = asked(attack=normalise(np.eye(2)))
    assert (first.novelty, first.by_index, first.past) == (None, {"attack": None}, 0)
    assert (second.novelty, second.by_index, second.past) == (0.0, {"attack": 0.0}, 1)


def test_a_day_unlike_all_before_it_gets_as_much_as_so_few_days_allow() -> None:
    found = asked(attack=np.vstack((around(0, 9, seed=1), around(5, 1, seed=2))))
    assert found[-1].novelty == 0.9
    assert found[-1].past == 9


def test_a_second_day_of_a_kind_is_no_longer_novel() -> None:
    rows = np.vstack((around(0, 9, seed=1), around(5, 2, seed=2, spread=0.01)))
    assert asked(attack=rows)[-1].novelty == 0.0


def test_what_a_day_is_told_does_not_change_when_later_days_come() -> None:
    rows = around(0, 12, seed=3)
    assert asked(attack=rows)[:8] == asked(attack=rows[:8])


def test_equal_days_are_not_novel() -> None:
    assert asked(attack=np.repeat(around(0, 1, seed=4), 6, axis=0))[-1].novelty == 0.0


def test_a_day_that_one_index_alone_finds_strange_is_novel_over_all() -> None:
    strange = np.vstack((around(0, 19, seed=5), around(7, 1, seed=6)))
    found = asked(timeseries=around(1, 20, seed=7), semantic=around(2, 20, seed=8), attack=strange)
    assert found[-1].novelty == found[-1].by_index["attack"] == 0.95


def test_days_far_off_in_one_index_do_not_hide_one_that_is_strange_in_another() -> None:
    steady, wild = np.linspace(1.0, 1.2, 20), np.geomspace(1.0, 1000.0, 20)
    steady[-1], wild[-1] = 3.0, 1.0
    overall, by_index = standing({"timeseries": steady, "attack": wild})
    # Only the day that is as extreme in its own index stands before it.
    assert (overall, by_index) == (0.9, {"timeseries": 0.95, "attack": 0.0})


def test_an_index_that_lacks_a_day_is_left_out_of_it() -> None:
    days = [FIRST + timedelta(days=n) for n in range(6)]
    whole = around(0, 6, seed=9)
    found = novelties({"attack": (days, whole), "semantic": (days[:4], whole[:4])})
    assert found[-1].by_index["semantic"] is None
    assert found[-1].novelty == found[-1].by_index["attack"]
    assert found[3].by_index["semantic"] == found[3].by_index["attack"]


@pytest.mark.parametrize("indices", [("attack",), ("timeseries", "semantic", "attack")])
def test_novelty_v_comes_by_chance_with_probability_one_minus_v_at_most(
    indices: tuple[str, ...],
) -> None:
    # Days that are alike in whatever order: the last one's rank is uniform.
    drawn = [
        {name: around(0, 20, seed=3 * n + place) for place, name in enumerate(indices)}
        for n in range(600)
    ]
    last = np.array([asked(**rows)[-1].novelty for rows in drawn], dtype=np.float64)
    for level in (0.5, 0.8, 0.9, 0.95):
        # Three standard errors of a share of 600 draws.
        allowed = 1 - level + 3 * np.sqrt(level * (1 - level) / 600)
        assert (last >= level).mean() <= allowed
    assert (last >= 0.5).mean() > 0.4
