"""What the row of a day keeps, with the shipped time-series encoder and real flows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from functools import cache

import numpy as np
import pytest

from embed.embedder import Embedder
from embed.rooms import open_embedder
from embed.series import SERIES, DaySeries
from embed.timeseries import TimeSeriesEmbedder, day_row
from models.store import locate
from tests.embed_samples import DAY_NS, START_NS, Timed, batches, event, fold, sample_day, span

HOUR_NS = 3_600_000_000_000
JULY = [date(2017, 7, day) for day in (3, 4, 5, 6, 7)]


@cache
def ordinary(day: date) -> tuple[Timed, ...]:
    """The flows of a day that were judged harmless, on the day that all tests use."""
    calm = [timed for timed in sample_day(day) if timed[1].overall_threat_score < 0.3]
    return tuple((START_NS + at % DAY_NS, message) for at, message in calm)


def burst(base: Sequence[Timed], hour: int) -> list[Timed]:
    """Four hundred flagged connections within one minute."""
    return [
        *base,
        *(event(hour * 3600 + i / 8, overall_threat_score=0.9) for i in range(400)),
    ]


def scan(base: Sequence[Timed], hour: int) -> list[Timed]:
    """Forty minutes of probes, each to another port."""
    probes = [
        event(hour * 3600 + 2 * i, network_destination_port=i + 1, overall_threat_score=0.75)
        for i in range(1200)
    ]
    return [*base, *probes]


def doubled(base: Sequence[Timed], hour: int) -> list[Timed]:
    """Everything twice, the second time a few minutes later."""
    return [*base, *((at + hour * 20_000_000_000, message) for at, message in base)]


def shifted(base: Sequence[Timed], hour: int) -> list[Timed]:
    """The working day begins later."""
    return [(START_NS + (at - START_NS + hour * HOUR_NS) % DAY_NS, message) for at, message in base]


@pytest.fixture(scope="module")
def rows() -> Callable[[Sequence[Timed]], np.ndarray]:
    embedder: Embedder = open_embedder("timeseries")
    return lambda events: fold(embedder, events)[0][0]


@pytest.fixture(scope="module")
def quiet(rows: Callable[[Sequence[Timed]], np.ndarray]) -> np.ndarray:
    return np.stack([rows(ordinary(day)) for day in JULY])


@pytest.mark.parametrize(
    ("plant", "hours"),
    [(burst, (2, 21)), (scan, (2, 22)), (doubled, (6, 7)), (shifted, (-6, -5))],
    ids=["burst", "night scan", "doubled volume", "shifted hours"],
)
def test_a_day_with_an_anomaly_is_nearer_to_another_such_day_than_to_quiet_ones(
    plant: Callable[[Sequence[Timed], int], list[Timed]],
    hours: tuple[int, int],
    rows: Callable[[Sequence[Timed]], np.ndarray],
    quiet: np.ndarray,
) -> None:
    one = rows(plant(ordinary(JULY[0]), hours[0]))
    other = rows(plant(ordinary(JULY[1]), hours[1]))
    assert float(one @ other) > float((quiet @ one).max())
    assert float(one @ other) > float((quiet @ other).max())
    # Planted on 3 July, it is further from that day than any two quiet days are from each other.
    assert float(one @ quiet[0]) < float((quiet @ quiet.T).min())


@pytest.mark.parametrize(("one", "other"), [("bytes", "packets"), ("sources", "ports")])
def test_a_burst_of_one_series_is_not_taken_for_a_burst_of_another(one: str, other: str) -> None:
    embedder = TimeSeriesEmbedder(locate("timeseries"), threads=1)
    events = ordinary(JULY[0])
    series = DaySeries(span(len(events)))
    for batch in batches(events):
        series.add(batch)
    day = series.finish().values

    def with_burst(name: str, minute: int) -> np.ndarray:
        values = day.copy()
        peak = values[SERIES.index(name)].max()
        values[SERIES.index(name), minute] += 20 * peak
        row: np.ndarray = day_row(embedder.embed_series(values), values)[0]
        return row

    early = with_burst(one, 130)
    assert float(early @ with_burst(one, 1290)) > float(early @ with_burst(other, 130))
