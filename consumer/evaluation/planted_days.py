"""Measures what the time-series row of a day keeps of a behaviour that is planted in it.

The **quiet** days are the benign flows of each recorded day. In the first of them a behaviour is
planted, at several hours in turn: a burst within one minute, a port scan of forty minutes in the
night, twice the volume, a shifted working day. All of it is made of recorded flows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle, islice
from pathlib import Path
from types import MappingProxyType

import numpy as np

from consumer.days import NS_PER_DAY, NS_PER_SECOND
from consumer.evaluation.made_days import Event, MadeDay, day_rows, recorded_events, time_of
from embed.embedder import Embedder

BURST, SCAN = 400, 1200
SCAN_LABEL = "Portscan"
_MINUTE_NS = 60 * NS_PER_SECOND
_HOUR_NS = 60 * _MINUTE_NS
Plant = Callable[[list[Event], list[Event], int], list[Event]]


def _burst(base: list[Event], scan: list[Event], hour: int) -> list[Event]:  # noqa: ARG001 - called like the others
    start, gap = hour * _HOUR_NS, _MINUTE_NS // BURST
    more = islice(cycle(base), BURST)
    return base + [(start + number * gap, event) for number, (_, event) in enumerate(more)]


def _scan(base: list[Event], scan: list[Event], hour: int) -> list[Event]:
    start, gap = hour * _HOUR_NS, 40 * _MINUTE_NS // SCAN
    more = islice(cycle(scan), SCAN)
    return base + [(start + number * gap, event) for number, (_, event) in enumerate(more)]


def _doubled(base: list[Event], scan: list[Event], minutes: int) -> list[Event]:  # noqa: ARG001 - called like the others
    return base + [((at + minutes * _MINUTE_NS) % NS_PER_DAY, event) for at, event in base]


def _shifted(base: list[Event], scan: list[Event], hours: int) -> list[Event]:  # noqa: ARG001 - called like the others
    return [((at + hours * _HOUR_NS) % NS_PER_DAY, event) for at, event in base]


# What is planted, and when: hours of the day, minutes of delay, hours of shift.
BEHAVIOURS: Mapping[str, tuple[Plant, tuple[int, ...]]] = MappingProxyType(
    {
        "burst in one minute": (_burst, (2, 9, 21)),
        "night scan": (_scan, (0, 2, 4)),
        "doubled volume": (_doubled, (3, 5, 7)),
        "later working day": (_shifted, (4, 5, 6)),
        "earlier working day": (_shifted, (-4, -5, -6)),
    }
)


def planted_days(flows: Path, embedder: Embedder) -> dict[str, dict[str, float]] | None:
    """Cosines of day rows, by behaviour; None if benign flows are of one day only.

    Args:
        flows: Parquet file of labelled flows, ordered by time.
        embedder: of the time series.

    Returns:
        Under `quiet days` the least and the mean cosine of two quiet days. By behaviour: `to_own_day`,
        mean cosine to the quiet day that it is planted in; `to_quiet_days`, the highest to any quiet
        day; `among_themselves`, the least of two hours of the behaviour; `nearest_is_own`, the share
        of its days whose nearest other day is of the same behaviour; the two shifts are two behaviours.
    """
    recorded = recorded_events(flows)
    quiet = list(recorded.benign_by_day.values())
    if len(quiet) < 2:
        return None
    scan = recorded.by_label.get(SCAN_LABEL, quiet[0])
    days = [MadeDay("quiet", events) for events in quiet]
    for name, (plant, places) in BEHAVIOURS.items():
        days += [
            MadeDay(name, sorted(plant(quiet[0], scan, place), key=time_of)) for place in places
        ]
    rows = day_rows(embedder, days)
    kinds = np.array([day.kind for day in days])
    cosines = rows @ rows.T
    alone = np.where(np.eye(len(days), dtype=np.bool_), np.nan, cosines)
    nearest = kinds[np.nanargmax(alone, axis=1)]
    calm = kinds == "quiet"
    between = alone[np.ix_(calm, calm)]
    found = {
        "quiet days": {
            "days": float(calm.sum()),
            "least": float(np.nanmin(between)),
            "mean": float(np.nanmean(between)),
        }
    }
    for name in BEHAVIOURS:
        own = kinds == name
        found[name] = {
            "days": float(own.sum()),
            "to_own_day": float(cosines[own, 0].mean()),
            "to_quiet_days": float(cosines[np.ix_(own, calm)].max()),
            "among_themselves": float(np.nanmin(alone[np.ix_(own, own)])),
            "nearest_is_own": float((nearest[own] == name).mean()),
        }
    return found
