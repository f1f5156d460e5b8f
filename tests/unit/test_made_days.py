"""The days that evaluations are made of, and what is asked of them."""

from datetime import date, timedelta

import numpy as np
import pytest

from consumer.days import NS_PER_DAY, NS_PER_SECOND
from consumer.evaluation.corpus import FLOWS
from consumer.evaluation.made_days import Event, Recorded, recorded_events
from consumer.evaluation.novelty import DayMaker, asked, gaps_of
from consumer.evaluation.planted_days import BEHAVIOURS
from consumer.questions.novelty import novelties
from embed.pooling import normalise

MINUTE_NS = 60 * NS_PER_SECOND


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return recorded_events(FLOWS)


@pytest.fixture(scope="module")
def quiet(recorded: Recorded) -> list[Event]:
    return next(iter(recorded.benign_by_day.values()))


def test_every_recorded_event_has_its_label_and_its_time_of_the_day(recorded: Recorded) -> None:
    times = [at for events in recorded.by_label.values() for at, _ in events]
    assert len(times) == 8017
    assert all(0 <= at < NS_PER_DAY for at in times)
    benign = sum(map(len, recorded.benign_by_day.values()))
    assert (len(recorded.benign_by_day), benign) == (5, len(recorded.by_label["BENIGN"]))


def planted(behaviour: str, recorded: Recorded, quiet: list[Event]) -> list[int]:
    """Minute of the day of each event that the first place of a behaviour adds."""
    plant, places = BEHAVIOURS[behaviour]
    day = plant(quiet, recorded.by_label["Portscan"], places[0])
    assert day[: len(quiet)] == quiet
    return [at // MINUTE_NS for at, _ in day[len(quiet) :]]


def test_a_burst_is_one_minute_and_a_scan_is_forty(recorded: Recorded, quiet: list[Event]) -> None:
    burst = planted("burst in one minute", recorded, quiet)
    assert (len(burst), set(burst)) == (400, {120})
    scan = planted("night scan", recorded, quiet)
    assert (len(scan), set(scan)) == (1200, set(range(40)))


def test_a_doubled_day_has_every_event_twice(recorded: Recorded, quiet: list[Event]) -> None:
    more = planted("doubled volume", recorded, quiet)
    assert more == [(at // MINUTE_NS + 3) % 1440 for at, _ in quiet]


def test_a_shifted_day_has_the_same_events_at_other_hours(quiet: list[Event]) -> None:
    plant, places = BEHAVIOURS["earlier working day"]
    moved = plant(quiet, [], places[0])
    assert [event.event_id for _, event in moved] == [event.event_id for _, event in quiet]
    assert {(at - to) % NS_PER_DAY for (at, _), (to, _) in zip(quiet, moved, strict=True)} == {
        240 * MINUTE_NS
    }


def test_the_same_seed_makes_the_same_days() -> None:
    days = [
        (maker.ordinary(), maker.planted("DDoS"))
        for maker in (DayMaker(FLOWS, seed=3), DayMaker(FLOWS, seed=3))
    ]
    assert days[0] == days[1]


def test_what_is_asked_of_drawn_days_is_the_novelty_of_the_last_of_them() -> None:
    rng = np.random.default_rng(4)
    rows = {name: normalise(rng.standard_normal((12, 16))) for name in ("timeseries", "attack")}
    gaps = {name: gaps_of(vectors) for name, vectors in rows.items()}
    for _ in range(20):
        places = rng.permutation(12)[:7]
        days = [date(2017, 7, 3) + timedelta(days=n) for n in range(7)]
        told = novelties({name: (days, vectors[places]) for name, vectors in rows.items()})[-1]
        assert asked(gaps, places) == {"all": told.novelty, **told.by_index}
