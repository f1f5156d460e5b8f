"""The synthetic series that the time-series encoder is trained on."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from models.training.calendar_series import calendar, daylight, sparse
from models.training.series import Kind, Rng
from models.training.supply import Plan, made, supply

PLAN = Plan(seed=5, tokens=200, least=8, most=16, horizon=64, bank=(np.ones(1440),))


@pytest.mark.parametrize("family", [calendar, daylight, sparse])
def test_every_kind_gives_finite_series_of_the_length_that_was_asked(
    family: Callable[[Rng], list[Kind]],
) -> None:
    for seed, length in itertools.product(range(12), (2, 88, 700)):
        rng = np.random.default_rng(seed)
        for kind in family(rng):
            series = kind(rng, length)
            assert series.shape == (length,)
            assert np.isfinite(series).all()


def test_a_day_of_daylight_is_nothing_for_a_part_of_it() -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        series = daylight(rng)[0](rng, 600)
        assert series.min() == 0
        assert (series == 0).mean() > 0.2


def test_a_batch_depends_on_its_seed_and_number_alone() -> None:
    rows, kinds = made(PLAN, 7)
    again, same = made(PLAN, 7)
    other, _ = made(PLAN, 8)
    assert np.array_equal(rows, again)
    assert np.array_equal(kinds, same)
    assert other.shape != rows.shape or not np.array_equal(other, rows)


def test_two_processes_give_the_batches_that_one_gives_in_the_same_order() -> None:
    alone = list(itertools.islice(supply(PLAN, 3, 0), 5))
    batches = supply(PLAN, 3, 2)
    shared = list(itertools.islice(batches, 5))
    batches.close()
    for (rows, kinds), (theirs, numbers) in zip(alone, shared, strict=True):
        assert np.array_equal(rows, theirs)
        assert np.array_equal(kinds, numbers)
