"""A batch is its events as columns, and reads as the events themselves."""

from __future__ import annotations

import pytest

from consumer.wire.admitted import Admitted, Batch, by_day, joined
from tests.journal_kit import DAY, NEXT_DAY, event, events

THREE = events(range(3))


def test_a_batch_reads_as_its_events() -> None:
    batch = Batch.of(THREE)
    assert list(batch) == THREE
    assert (len(batch), batch[1], batch[-1]) == (3, THREE[1], THREE[2])
    assert list(batch[1:]) == THREE[1:]
    assert {type(row) for row in batch} == {Admitted}


@pytest.mark.parametrize("mixed", [[], [event(1), event(1, NEXT_DAY)]])
def test_a_batch_is_of_one_day(mixed: list[Admitted]) -> None:
    with pytest.raises(ValueError, match="one day"):
        Batch.of(mixed)


@pytest.mark.parametrize("places", [[], [1], [0, 2]])
def test_only_some_events_of_a_batch(places: list[int]) -> None:
    assert list(Batch.of(THREE).only(places)) == [THREE[place] for place in places]


def test_events_of_several_days_become_a_batch_for_each_in_their_order() -> None:
    later, sooner = events(range(2), NEXT_DAY), events(range(2), DAY)
    mixed = [later[0], sooner[0], later[1], sooner[1]]
    assert [(batch.day, list(batch)) for batch in by_day(mixed)] == [
        (DAY, sooner),
        (NEXT_DAY, later),
    ]
    assert by_day([]) == []


def test_a_batch_is_by_day_already() -> None:
    batch = Batch.of(THREE)
    assert by_day(batch) == [batch]


def test_batches_of_one_day_join_to_one() -> None:
    found = joined([Batch.of(THREE[:1]), Batch.of(THREE[1:])])
    assert isinstance(found, Batch)
    assert list(found) == THREE


def test_batches_of_several_days_join_to_their_events() -> None:
    other = [event(7, NEXT_DAY)]
    assert list(joined([Batch.of(THREE), Batch.of(other)])) == [*THREE, *other]
