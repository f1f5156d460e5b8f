"""A run is messages of one detector as columns, and reads as the messages themselves."""

from __future__ import annotations

from consumer.reception.sources import Arrival, Arrivals, Run, runs_of

ROWS = [Arrival("a", 1, b"x"), Arrival("a", 2, b"y"), Arrival("b", 2, b"z"), Arrival("a", 3, b"w")]
RUNS = [Run("a", [1, 2], [b"x", b"y"]), Run("b", [2], [b"z"]), Run("a", [3], [b"w"])]


def test_messages_become_runs_that_keep_their_order() -> None:
    assert list(runs_of(ROWS)) == RUNS
    assert list(runs_of([])) == []


def test_sealed_and_bare_messages_are_no_run_together() -> None:
    rows = [Arrival("a", 1, b"x"), Arrival("a", 1, b"y", sealed=False)]
    assert list(runs_of(rows)) == [Run("a", [1], [b"x"]), Run("a", [1], [b"y"], sealed=False)]


def test_what_was_taken_reads_as_its_messages() -> None:
    taken = Arrivals(RUNS)
    assert list(taken) == ROWS
    assert (len(taken), taken[1], taken[-1]) == (4, ROWS[1], ROWS[3])
    assert list(taken[1:3]) == ROWS[1:3]
    assert runs_of(taken) is RUNS


def test_a_part_of_a_run() -> None:
    run = Run("a", [1, 2, 3], [b"x", b"y", b"z"], sealed=False)
    assert run.between(1, 3).rows() == run.rows()[1:]
    assert run.where([True, False, True]).rows() == [run.rows()[0], run.rows()[2]]
