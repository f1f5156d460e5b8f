import threading
from collections.abc import Iterable

import pytest

from consumer.reception.handover import MESSAGE_OVERHEAD, RUN, Handover, Lane
from consumer.reception.sources import Arrival, Run

SIZE = 1_000
COST = SIZE + MESSAGE_OVERHEAD


def messages(detector: str, count: int, first: int = 0, size: int = SIZE) -> Run:
    return Run(detector, list(range(first, first + count)), [bytes(size)] * count)


def numbers(arrivals: Iterable[Arrival], detector: str) -> list[int]:
    return [arrival.arrival_ns for arrival in arrivals if arrival.detector == detector]


def filled(limit_messages: int, *counts: int) -> tuple[Handover, list[Lane]]:
    """A handover with room for so many messages and a lane per count, named a, b, and so on."""
    handover = Handover(limit_messages * COST)
    lanes = [handover.lane() for _ in counts]
    for name, lane, count in zip("abc", lanes, counts, strict=False):
        handover.put(lane, messages(name, count))
    return handover, lanes


def test_messages_come_out_in_order() -> None:
    handover, _ = filled(100, 10)
    assert numbers(handover.take(4, 0), "a") == [0, 1, 2, 3]
    assert numbers(handover.take(100, 0), "a") == [4, 5, 6, 7, 8, 9]


def test_lanes_take_turns() -> None:
    handover, _ = filled(1_000, 500, 3)
    taken = handover.take(10, 0)
    assert numbers(taken, "b") == [0, 1, 2]
    assert numbers(taken, "a") == [0, 1, 2, 3, 4, 5, 6]


def test_a_limit_below_the_number_of_lanes_serves_them_one_after_another() -> None:
    handover, _ = filled(1_000, 5, 5, 5)
    assert [handover.take(1, 0)[0].detector for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]


def test_at_the_limit_the_newest_message_is_dropped_and_counted() -> None:
    handover, (lane,) = filled(10, 15)
    assert lane.dropped == 5
    assert handover.held_bytes == 10 * COST
    assert numbers(handover.take(100, 0), "a") == list(range(10))


def test_what_is_taken_makes_room() -> None:
    handover, (lane,) = filled(10, 10)
    handover.take(4, 0)
    handover.put(lane, messages("a", 5, first=10))
    assert lane.dropped == 1
    assert numbers(handover.take(100, 0), "a") == [4, 5, 6, 7, 8, 9, 10, 11, 12, 13]


def test_the_lane_that_holds_the_most_pays() -> None:
    handover, (flooding, quiet) = filled(10, 20, 3)
    assert (flooding.dropped, quiet.dropped) == (13, 0)
    taken = handover.take(100, 0)
    assert numbers(taken, "b") == [0, 1, 2]
    assert numbers(taken, "a") == list(range(7))


def test_two_floods_share_the_room() -> None:
    _, (first, second) = filled(10, 20, 20)
    assert (first.held_bytes, second.held_bytes) == (5 * COST, 5 * COST)
    assert (first.dropped, second.dropped) == (15, 15)


def test_a_message_larger_than_the_limit_is_dropped_and_pushes_nothing_out() -> None:
    handover, lanes = filled(10, 4, 0)
    handover.put(lanes[1], messages("b", 1, size=20 * COST))
    assert (lanes[0].dropped, lanes[1].dropped) == (0, 1)


def test_a_message_larger_than_an_empty_handover_is_dropped() -> None:
    handover = Handover(100)
    lane = handover.lane()
    handover.put(lane, messages("a", 1))
    assert (lane.dropped, handover.held_bytes) == (1, 0)
    assert list(handover.take(1, 0)) == []


def test_tiny_messages_count_with_their_overhead() -> None:
    handover = Handover(10 * MESSAGE_OVERHEAD)
    lane = handover.lane()
    handover.put(lane, messages("a", 50, size=0))
    assert len(handover.take(100, 0)) == 10


def test_held_bytes_are_what_is_in_the_lanes() -> None:
    handover, lanes = filled(20, 9, 14, 11)
    while handover.take(4, 0):
        assert handover.held_bytes == sum(lane.held_bytes for lane in lanes)
    assert handover.held_bytes == 0


def test_putting_nothing_changes_nothing() -> None:
    handover, (lane,) = filled(10, 0)
    handover.put(lane, messages("a", 0))
    assert list(handover.take(1, 0)) == []


def test_messages_that_came_one_by_one_are_taken_together() -> None:
    handover, (lane,) = filled(1_000, 0)
    for number in range(600):
        handover.put(lane, messages("a", 1, first=number))
    taken = handover.take(600, 0)
    assert numbers(taken, "a") == list(range(600))
    assert [len(run.messages) for run in taken.runs] == [RUN, RUN, 600 - 2 * RUN]


def test_sealed_and_bare_messages_of_a_lane_stay_apart_and_in_order() -> None:
    handover, (lane,) = filled(10, 0)
    bare = messages("a", 1, first=1)._replace(sealed=False)
    for run in (messages("a", 1), bare, messages("a", 1, first=2)):
        handover.put(lane, run)
    taken = handover.take(10, 0)
    assert [(one.arrival_ns, one.sealed) for one in taken] == [(0, True), (1, False), (2, True)]


def test_a_closed_handover_is_drained_once_it_is_empty() -> None:
    handover, _ = filled(10, 2)
    drained = [handover.drained]
    handover.close()
    drained.append(handover.drained)
    handover.take(10, 0)
    drained.append(handover.drained)
    assert drained == [False, False, True]
    assert list(handover.take(10, 60.0)) == []


def test_a_waiting_take_is_woken_by_a_message() -> None:
    handover, (lane,) = filled(10, 0)
    taken: list[Arrival] = []
    taker = threading.Thread(target=lambda: taken.extend(handover.take(5, 30.0)))
    taker.start()
    handover.put(lane, messages("a", 1))
    taker.join(10)
    assert numbers(taken, "a") == [0]


def test_a_waiting_take_is_woken_by_the_end() -> None:
    handover, _ = filled(10, 0)
    taker = threading.Thread(target=handover.take, args=(5, 30.0))
    taker.start()
    handover.close()
    taker.join(10)
    assert not taker.is_alive()


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    handover, _ = filled(10, 1)
    with pytest.raises(ValueError, match="at least 1"):
        handover.take(limit, 0)


def test_a_handover_says_beforehand_whose_next_message_would_be_dropped() -> None:
    handover, (heavy, light) = filled(100, 60, 5)
    assert not handover.would_drop(heavy)
    handover.put(light, messages("b", 34))
    assert handover.would_drop(heavy)
    assert not handover.would_drop(light)
    handover.drop(heavy, 7)
    assert (heavy.dropped, light.dropped) == (7, 0)
    handover.take(50, 0)
    assert not handover.would_drop(heavy)
