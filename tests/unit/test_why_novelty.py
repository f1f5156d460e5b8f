from datetime import date
from typing import Any

import numpy as np

from consumer.questions.novelty import calibrated, unlikeness
from consumer.questions.why import explain
from index.chunks import StoredRow


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


def test_unlikeness_is_measured_against_the_nearest_earlier_day() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    assert unlikeness(vectors) == [None, 1.0, 0.0]


def test_the_most_unlike_day_so_far_ranks_above_all_before_it() -> None:
    places = calibrated([None, 0.1, 0.2, 0.15, 0.9])
    assert places[0] is None
    assert places[1] == 0.5
    assert places[4] == 0.875
    known = [place for place in places if place is not None]
    assert all(0 < place < 1 for place in known)


def test_a_day_like_all_before_it_ranks_in_the_middle() -> None:
    assert calibrated([None, 0.2, 0.2, 0.2])[-1] == 0.5
